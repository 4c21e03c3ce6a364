// cudnnFind…: every algorithm that has the shape, "timed". Here the highest number is the fastest, so that a trial finds another than
// the first of a table; what a caller must not take comes before it.
#include "cudnn.h"

// Bytes that no caller should give to one layer.
#define TOO_MUCH ((size_t)1 << 36)

static int find(enum pass pass, const struct tensor *x, const struct filter *w, const struct convolution *it, const struct tensor *y,
                int wanted, int *given, struct performance *out) {
    if (!given || !out) return NULL_POINTER;
    if (wanted < 1) return BAD_PARAM;
    size_t bytes;
    int result = standin_workspace(pass, x, w, it, y, 0, &bytes), at = 0;
    if (result) return result;
    float time = 1.0f;
    if (at < wanted) out[at++] = (struct performance){3, NOT_SUPPORTED, -1.0f, 0, 0, it->math, {0}};
    if (at < wanted) out[at++] = (struct performance){1, SUCCESS, time, TOO_MUCH, 1, it->math, {0}};
    if (at < wanted) out[at++] = (struct performance){1, SUCCESS, time, 0, 1, HALF_MATH, {0}};
    for (int algorithm = 7; algorithm >= 0 && at < wanted; algorithm--) {
        if (standin_workspace(pass, x, w, it, y, algorithm, &bytes) != SUCCESS) continue;
        time += 1.0f;
        out[at++] = (struct performance){algorithm, SUCCESS, time, bytes, 0, it->math, {0}};
    }
    *given = at;
    standin_count("convolution_trials", 1);
    return SUCCESS;
}
int cudnnFindConvolutionForwardAlgorithm(struct cudnn *handle, struct tensor *x, struct filter *w, struct convolution *it,
                                         struct tensor *y, int wanted, int *given, struct performance *out) {
    return LIVE(handle, CUDNN) ? find(FORWARD, x, w, it, y, wanted, given, out) : BAD_PARAM;
}
int cudnnFindConvolutionBackwardDataAlgorithm(struct cudnn *handle, struct filter *w, struct tensor *dy, struct convolution *it,
                                              struct tensor *dx, int wanted, int *given, struct performance *out) {
    return LIVE(handle, CUDNN) ? find(DATA, dx, w, it, dy, wanted, given, out) : BAD_PARAM;
}
int cudnnFindConvolutionBackwardFilterAlgorithm(struct cudnn *handle, struct tensor *x, struct tensor *dy, struct convolution *it,
                                                struct filter *dw, int wanted, int *given, struct performance *out) {
    return LIVE(handle, CUDNN) ? find(WEIGHTS, x, dw, it, dy, wanted, given, out) : BAD_PARAM;
}
