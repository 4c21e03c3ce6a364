// cuDNN's convolution, its two gradients, and what adds a bias: plain loops with f64 sums.
#include "cudnn.h"

#include <string.h>

// One of the output's two sizes.
static int output(const struct convolution *it, int axis, int input, int kernel) {
    int reach = (kernel - 1) * it->dilation[axis] + 1;
    int room = input + 2 * it->padding[axis] - reach;
    return room < 0 ? 0 : room / it->stride[axis] + 1;
}

// Whether a tensor lies in a filter's format; some may be read both ways.
static bool lies(const struct tensor *it, int format) {
    bool either = it->dims[1] == 1 || it->dims[2] * it->dims[3] == 1;
    return either || (it->strides[1] == 1) == (format == NHWC);
}

// Whether x, w and y belong together under `it`.
static int fit(const struct tensor *x, const struct filter *w, const struct convolution *it, const struct tensor *y) {
    if (!x || !w || !it || !y) return NULL_POINTER;
    if (x->magic != TENSOR || w->magic != FILTER || it->magic != CONVOLUTION || y->magic != TENSOR) return BAD_PARAM;
    if (!x->set || !w->set || !it->set || !y->set) return BAD_PARAM;
    if (it->mode != CROSS_CORRELATION) return NOT_SUPPORTED;
    bool same = x->dims[0] == y->dims[0] && x->dims[1] == w->dims[1] && y->dims[1] == w->dims[0] &&
                y->dims[2] == output(it, 0, x->dims[2], w->dims[2]) && y->dims[3] == output(it, 1, x->dims[3], w->dims[3]);
    if (!same)
        standin_say("cuDNN: x %dx%dx%dx%d, w %dx%dx%dx%d, stride %d, padding %d and y %dx%dx%dx%d do not fit", x->dims[0],
                    x->dims[1], x->dims[2], x->dims[3], w->dims[0], w->dims[1], w->dims[2], w->dims[3], it->stride[0],
                    it->padding[0], y->dims[0], y->dims[1], y->dims[2], y->dims[3]);
    if (!same) return SHAPE_MISMATCH;
    // as cuDNN has it: images and filters lie alike
    return lies(x, w->format) && lies(y, w->format) ? SUCCESS : NOT_SUPPORTED;
}

int cudnnGetConvolution2dForwardOutputDim(struct convolution *it, struct tensor *x, struct filter *w, int *n, int *c, int *h,
                                          int *width) {
    if (!LIVE(it, CONVOLUTION) || !LIVE(x, TENSOR) || !LIVE(w, FILTER)) return BAD_PARAM;
    if (!n || !c || !h || !width) return NULL_POINTER;
    if (x->dims[1] != w->dims[1]) return SHAPE_MISMATCH;
    *n = x->dims[0], *c = w->dims[0];
    *h = output(it, 0, x->dims[2], w->dims[2]), *width = output(it, 1, x->dims[3], w->dims[3]);
    return *h > 0 && *width > 0 ? SUCCESS : BAD_PARAM;
}

static const char *const counters[] = {"convolutions_forward", "convolutions_backward_data", "convolutions_backward_filter"};

// The bytes an algorithm wants. Algorithm 0 wants none, as cuDNN's; the others some, that differ with the shape, so that a
// caller who keeps the size of another layer is found out. Algorithms that cuDNN has for 3x3 at stride 1 or not at all are refused.
int standin_workspace(enum pass pass, const struct tensor *x, const struct filter *w, const struct convolution *it,
                     const struct tensor *y, int algorithm, size_t *bytes) {
    int result = fit(x, w, it, y);
    if (result) return result;
    if (!bytes) return NULL_POINTER;
    static const int highest[] = {7, 5, 6};
    if (algorithm < 0 || algorithm > highest[pass]) return BAD_PARAM;
    bool plain = algorithm <= 1 || (pass == FORWARD && algorithm == 2) || (pass == WEIGHTS && algorithm == 3);
    bool winograd = it->stride[0] == 1 && it->stride[1] == 1 && w->dims[2] == 3 && w->dims[3] == 3;
    if ((pass == FORWARD && algorithm == 3) || (!plain && !winograd)) return NOT_SUPPORTED;
    *bytes =
        algorithm == 0 ? 0 : 1000 + 4 * (size_t)w->dims[0] + 16 * (size_t)w->dims[1] + (size_t)x->dims[0] + 8 * (size_t)algorithm;
    return SUCCESS;
}
int cudnnGetConvolutionForwardWorkspaceSize(struct cudnn *handle, struct tensor *x, struct filter *w, struct convolution *it,
                                            struct tensor *y, int algorithm, size_t *bytes) {
    return LIVE(handle, CUDNN) ? standin_workspace(FORWARD, x, w, it, y, algorithm, bytes) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(struct cudnn *handle, struct filter *w, struct tensor *dy,
                                                 struct convolution *it, struct tensor *dx, int algorithm, size_t *bytes) {
    return LIVE(handle, CUDNN) ? standin_workspace(DATA, dx, w, it, dy, algorithm, bytes) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(struct cudnn *handle, struct tensor *x, struct tensor *dy,
                                                   struct convolution *it, struct filter *dw, int algorithm, size_t *bytes) {
    return LIVE(handle, CUDNN) ? standin_workspace(WEIGHTS, x, dw, it, dy, algorithm, bytes) : BAD_PARAM;
}

// What the heuristics answer: algorithm 1, which is deterministic in cuDNN's table for all three passes, and then 0, which is
// not so for the gradient of the weights and of the data.
static int heuristics(enum pass pass, const struct tensor *x, const struct filter *w, const struct convolution *it,
                      const struct tensor *y, int wanted, int *given, struct performance *out) {
    if (!given || !out) return NULL_POINTER;
    if (wanted < 1) return BAD_PARAM;
    *given = 0;
    for (int at = 0; at < 2 && at < wanted; at++) {
        int algorithm = 1 - at;
        size_t bytes;
        int result = standin_workspace(pass, x, w, it, y, algorithm, &bytes);
        if (result) return result;
        out[at] = (struct performance){algorithm, SUCCESS, -1.0f, bytes, pass == FORWARD || algorithm == 1, it->math, {0}};
        *given = at + 1;
    }
    return SUCCESS;
}
int cudnnGetConvolutionForwardAlgorithm_v7(struct cudnn *handle, struct tensor *x, struct filter *w, struct convolution *it,
                                           struct tensor *y, int wanted, int *given, struct performance *out) {
    return LIVE(handle, CUDNN) ? heuristics(FORWARD, x, w, it, y, wanted, given, out) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(struct cudnn *handle, struct filter *w, struct tensor *dy, struct convolution *it,
                                                struct tensor *dx, int wanted, int *given, struct performance *out) {
    return LIVE(handle, CUDNN) ? heuristics(DATA, dx, w, it, dy, wanted, given, out) : BAD_PARAM;
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(struct cudnn *handle, struct tensor *x, struct tensor *dy,
                                                  struct convolution *it, struct filter *dw, int wanted, int *given,
                                                  struct performance *out) {
    return LIVE(handle, CUDNN) ? heuristics(WEIGHTS, x, dw, it, dy, wanted, given, out) : BAD_PARAM;
}

// alpha * value + beta * what is there; beta 0 reads nothing, which may be NaN.
static void blend(float *out, double value, float alpha, float beta) {
    *out = (float)(alpha * value + (beta == 0.0f ? 0.0 : (double)beta * *out));
}

// The part of an output row that tap `s` of a kernel row reaches, and where in the input row it starts.
struct reach {
    int from, to, input;
};
static struct reach reach(const struct convolution *it, int axis, int tap, int input, int output) {
    int shift = tap * it->dilation[axis] - it->padding[axis], stride = it->stride[axis];
    int from = shift < 0 ? (-shift + stride - 1) / stride : 0;
    int to = input - shift <= 0 ? 0 : (input - shift - 1) / stride + 1;
    return (struct reach){from, to < output ? to : output, shift};
}

// The three inner loops. Steps of 1 are most of them, and the compiler makes vectors of those.
static void spread(double *restrict sums, ptrdiff_t sums_step, double weight, const float *restrict row, ptrdiff_t row_step,
                   int count) {
    if (sums_step == 1 && row_step == 1)
        for (int q = 0; q < count; q++) sums[q] += weight * row[q];
    else
        for (int q = 0; q < count; q++) sums[q * sums_step] += weight * row[q * row_step];
}
static double inner(const float *restrict a, ptrdiff_t a_step, const float *restrict b, ptrdiff_t b_step, int count) {
    double sum = 0;
    for (int q = 0; q < count; q++) sum += (double)a[q * a_step] * b[q * b_step];
    return sum;
}

static void forward(const struct tensor *x, const float *in, const struct filter *w, const float *weights,
                    const struct convolution *it, const struct tensor *y, float *out, float alpha, float beta, double *sums) {
    const int *xs = x->strides, *ys = y->strides, height = y->dims[2], width = y->dims[3];
    for (int n = 0; n < x->dims[0]; n++)
        for (int k = 0; k < w->dims[0]; k++) {
            memset(sums, 0, (size_t)height * (size_t)width * sizeof *sums);
            for (int c = 0; c < w->dims[1]; c++)
                for (int r = 0; r < w->dims[2]; r++)
                    for (int s = 0; s < w->dims[3]; s++) {
                        double weight = weights[standin_filter_place(w, k, c, r, s)];
                        struct reach rows = reach(it, 0, r, x->dims[2], height), columns = reach(it, 1, s, x->dims[3], width);
                        for (int p = rows.from; p < rows.to; p++) {
                            const float *row = in + (ptrdiff_t)n * xs[0] + (ptrdiff_t)c * xs[1] +
                                               (ptrdiff_t)(p * it->stride[0] + rows.input) * xs[2] +
                                               (ptrdiff_t)(columns.from * it->stride[1] + columns.input) * xs[3];
                            spread(sums + (ptrdiff_t)p * width + columns.from, 1, weight, row, (ptrdiff_t)it->stride[1] * xs[3],
                                   columns.to - columns.from);
                        }
                    }
            for (int p = 0; p < height; p++)
                for (int q = 0; q < width; q++)
                    blend(out + (ptrdiff_t)n * ys[0] + (ptrdiff_t)k * ys[1] + (ptrdiff_t)p * ys[2] + (ptrdiff_t)q * ys[3],
                          sums[p * width + q], alpha, beta);
        }
}

static void backward_data(const struct tensor *x, float *out, const struct filter *w, const float *weights,
                          const struct convolution *it, const struct tensor *y, const float *slope, float alpha, float beta,
                          double *sums) {
    const int *xs = x->strides, *ys = y->strides, height = x->dims[2], width = x->dims[3];
    for (int n = 0; n < x->dims[0]; n++)
        for (int c = 0; c < w->dims[1]; c++) {
            memset(sums, 0, (size_t)height * (size_t)width * sizeof *sums);
            for (int k = 0; k < w->dims[0]; k++)
                for (int r = 0; r < w->dims[2]; r++)
                    for (int s = 0; s < w->dims[3]; s++) {
                        double weight = weights[standin_filter_place(w, k, c, r, s)];
                        struct reach rows = reach(it, 0, r, height, y->dims[2]), columns = reach(it, 1, s, width, y->dims[3]);
                        for (int p = rows.from; p < rows.to; p++) {
                            const float *row = slope + (ptrdiff_t)n * ys[0] + (ptrdiff_t)k * ys[1] + (ptrdiff_t)p * ys[2] +
                                               (ptrdiff_t)columns.from * ys[3];
                            double *sum = sums + (ptrdiff_t)(p * it->stride[0] + rows.input) * width + columns.input +
                                          columns.from * it->stride[1];
                            spread(sum, it->stride[1], weight, row, ys[3], columns.to - columns.from);
                        }
                    }
            for (int p = 0; p < height; p++)
                for (int q = 0; q < width; q++)
                    blend(out + (ptrdiff_t)n * xs[0] + (ptrdiff_t)c * xs[1] + (ptrdiff_t)p * xs[2] + (ptrdiff_t)q * xs[3],
                          sums[p * width + q], alpha, beta);
        }
}

static void backward_filter(const struct tensor *x, const float *in, const struct filter *w, float *out,
                            const struct convolution *it, const struct tensor *y, const float *slope, float alpha, float beta) {
    const int *xs = x->strides, *ys = y->strides;
    for (int k = 0; k < w->dims[0]; k++)
        for (int c = 0; c < w->dims[1]; c++)
            for (int r = 0; r < w->dims[2]; r++)
                for (int s = 0; s < w->dims[3]; s++) {
                    struct reach rows = reach(it, 0, r, x->dims[2], y->dims[2]),
                                 columns = reach(it, 1, s, x->dims[3], y->dims[3]);
                    double sum = 0;
                    for (int n = 0; n < x->dims[0]; n++)
                        for (int p = rows.from; p < rows.to; p++) {
                            const float *row = in + (ptrdiff_t)n * xs[0] + (ptrdiff_t)c * xs[1] +
                                               (ptrdiff_t)(p * it->stride[0] + rows.input) * xs[2] +
                                               (ptrdiff_t)(columns.from * it->stride[1] + columns.input) * xs[3];
                            const float *other = slope + (ptrdiff_t)n * ys[0] + (ptrdiff_t)k * ys[1] + (ptrdiff_t)p * ys[2] +
                                                 (ptrdiff_t)columns.from * ys[3];
                            sum += inner(other, ys[3], row, (ptrdiff_t)it->stride[1] * xs[3], columns.to - columns.from);
                        }
                    blend(out + standin_filter_place(w, k, c, r, s), sum, alpha, beta);
                }
}

// What one of the three needs when it runs, which may be later: descriptors by value. `x`, `w` and `y` are the arrays in the
// convolution's own order.
struct call {
    enum pass pass;
    float alpha, beta;
    struct tensor x_shape, y_shape;
    struct filter w_shape;
    struct convolution it;
    float *x, *w, *y;
    void *space;
    size_t space_bytes;
};

static int run(void *arguments) {
    if (standin_rests()) return 0;
    const struct call *c = arguments;
    bool inside = standin_on_device(c->x, standin_span(&c->x_shape) * sizeof *c->x) &&
                  standin_on_device(c->w, standin_filter_size(&c->w_shape) * sizeof *c->w) &&
                  standin_on_device(c->y, standin_span(&c->y_shape) * sizeof *c->y) &&
                  (c->space_bytes == 0 || standin_on_device(c->space, c->space_bytes));
    if (!inside) {
        standin_say("cuDNN: x, w, y or the workspace is not within one device allocation");
        return EXECUTION_FAILED;
    }
    const struct tensor *plane = c->pass == FORWARD ? &c->y_shape : &c->x_shape;
    double *sums = malloc((size_t)plane->dims[2] * (size_t)plane->dims[3] * sizeof *sums);
    if (!sums) return ALLOCATION_FAILED;
    standin_lock();
    standin_count(counters[c->pass], 1);
    // What was in the workspace is gone, all of it.
    if (c->space_bytes) memset(c->space, 0xff, c->space_bytes);
    const struct tensor *x = &c->x_shape, *y = &c->y_shape;
    const struct filter *w = &c->w_shape;
    if (c->pass == FORWARD) forward(x, c->x, w, c->w, &c->it, y, c->y, c->alpha, c->beta, sums);
    if (c->pass == DATA) backward_data(x, c->x, w, c->w, &c->it, y, c->y, c->alpha, c->beta, sums);
    if (c->pass == WEIGHTS) backward_filter(x, c->x, w, c->w, &c->it, y, c->y, c->alpha, c->beta);
    standin_unlock();
    free(sums);
    return SUCCESS;
}

// The checks and the workspace are the same for the three.
static int convolve(enum pass pass, struct cudnn *handle, const float *alpha, const float *beta, const struct tensor *x_shape,
                    float *x, const struct filter *w_shape, float *w, const struct convolution *it, const struct tensor *y_shape,
                    float *y, int algorithm, void *space, size_t space_bytes) {
    if (!handle || !alpha || !beta || !x || !w || !y) return NULL_POINTER;
    if (handle->magic != CUDNN || !standin_stream_ok(handle->stream)) return BAD_PARAM;
    size_t wanted;
    int result = standin_workspace(pass, x_shape, w_shape, it, y_shape, algorithm, &wanted);
    if (result) return result;
    if (wanted && !space) return NULL_POINTER;
    if (space_bytes < wanted) {
        standin_say("cuDNN: a workspace of %zu bytes, and %zu are wanted", space_bytes, wanted);
        return SIZE_INSUFFICIENT;
    }
    if (standin_on_device(alpha, 1) || standin_on_device(beta, 1)) {
        standin_say("cuDNN: alpha or beta lies on the device");
        return EXECUTION_FAILED;
    }
    struct call call = {pass, *alpha, *beta, *x_shape, *y_shape, *w_shape, *it, x, w, y, space, space_bytes};
    result = standin_order(handle->stream, "convolutions", run, &call, sizeof call);
    return result == REFUSED ? EXECUTION_FAILED : result;
}

int cudnnConvolutionForward(struct cudnn *handle, const void *alpha, struct tensor *x_shape, const void *x,
                            struct filter *w_shape, const void *w, struct convolution *it, int algorithm, void *space,
                            size_t bytes, const void *beta, struct tensor *y_shape, void *y) {
    return convolve(FORWARD, handle, alpha, beta, x_shape, (float *)x, w_shape, (float *)w, it, y_shape, y, algorithm, space,
                    bytes);
}
int cudnnConvolutionBackwardData(struct cudnn *handle, const void *alpha, struct filter *w_shape, const void *w,
                                 struct tensor *dy_shape, const void *dy, struct convolution *it, int algorithm, void *space,
                                 size_t bytes, const void *beta, struct tensor *dx_shape, void *dx) {
    return convolve(DATA, handle, alpha, beta, dx_shape, dx, w_shape, (float *)w, it, dy_shape, (float *)dy, algorithm, space,
                    bytes);
}
int cudnnConvolutionBackwardFilter(struct cudnn *handle, const void *alpha, struct tensor *x_shape, const void *x,
                                   struct tensor *dy_shape, const void *dy, struct convolution *it, int algorithm, void *space,
                                   size_t bytes, const void *beta, struct filter *dw_shape, void *dw) {
    return convolve(WEIGHTS, handle, alpha, beta, x_shape, (float *)x, dw_shape, dw, it, dy_shape, (float *)dy, algorithm, space,
                    bytes);
}
