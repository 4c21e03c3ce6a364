// cuDNN's plain functions of tensors: a bias is added (AddTensor) and its gradient summed (ConvolutionBackwardBias).
#include "cudnn.h"

static bool usable(const struct cudnn *handle, const struct tensor *shape, const void *at) {
    return LIVE(handle, CUDNN) && LIVE(shape, TENSOR) && shape->set && standin_stream_ok(handle->stream) &&
           standin_on_device(at, standin_span(shape) * sizeof(float));
}

#define EACH4(a, b, c, d, dims)                                                                                                  \
    for (int a = 0; a < (dims)[0]; a++)                                                                                          \
        for (int b = 0; b < (dims)[1]; b++)                                                                                      \
            for (int c = 0; c < (dims)[2]; c++)                                                                                  \
                for (int d = 0; d < (dims)[3]; d++)

static size_t place(const struct tensor *shape, int a, int b, int c, int d) {
    const int *s = shape->strides;
    return (size_t)a * (size_t)s[0] + (size_t)b * (size_t)s[1] + (size_t)c * (size_t)s[2] + (size_t)d * (size_t)s[3];
}

// C = alpha * A + beta * C; A's dimensions are C's or 1.
int cudnnAddTensor(struct cudnn *handle, const float *alpha, struct tensor *a_shape, const float *A, const float *beta,
                   struct tensor *c_shape, float *C) {
    if (!alpha || !beta || !A || !C || !a_shape || !c_shape) return NULL_POINTER;
    for (int d = 0; d < 4; d++)
        if (a_shape->dims[d] != 1 && a_shape->dims[d] != c_shape->dims[d]) return SHAPE_MISMATCH;
    if (!usable(handle, a_shape, A) || !usable(handle, c_shape, C)) return BAD_PARAM;
    const int *dims = a_shape->dims;
    if (standin_uncaptured(handle->stream, "add_tensors")) return NOT_SUPPORTED;
    standin_lock();
    standin_count("add_tensors", 1);
    EACH4(n, c, h, w, c_shape->dims) {
        float *out = &C[place(c_shape, n, c, h, w)];
        float add = A[place(a_shape, dims[0] > 1 ? n : 0, dims[1] > 1 ? c : 0, dims[2] > 1 ? h : 0, dims[3] > 1 ? w : 0)];
        *out = (float)((double)*alpha * add + (*beta == 0.0f ? 0.0 : (double)*beta * *out));
    }
    standin_unlock();
    return SUCCESS;
}

// db[c] = alpha * sum of dy over all but c + beta * db[c].
int cudnnConvolutionBackwardBias(struct cudnn *handle, const float *alpha, struct tensor *dy_shape, const float *dy,
                                 const float *beta, struct tensor *db_shape, float *db) {
    if (!alpha || !beta || !dy || !db || !dy_shape || !db_shape) return NULL_POINTER;
    if (!usable(handle, dy_shape, dy) || !usable(handle, db_shape, db)) return BAD_PARAM;
    if (db_shape->dims[0] != 1 || db_shape->dims[1] != dy_shape->dims[1] || db_shape->dims[2] != 1 || db_shape->dims[3] != 1)
        return SHAPE_MISMATCH;
    if (standin_uncaptured(handle->stream, "bias_gradients")) return NOT_SUPPORTED;
    standin_lock();
    standin_count("bias_gradients", 1);
    for (int c = 0; c < dy_shape->dims[1]; c++) {
        double sum = 0;
        for (int n = 0; n < dy_shape->dims[0]; n++)
            for (int h = 0; h < dy_shape->dims[2]; h++)
                for (int w = 0; w < dy_shape->dims[3]; w++) sum += dy[place(dy_shape, n, c, h, w)];
        float *out = &db[place(db_shape, 0, c, 0, 0)];
        *out = (float)(*alpha * sum + (*beta == 0.0f ? 0.0 : (double)*beta * *out));
    }
    standin_unlock();
    return SUCCESS;
}
