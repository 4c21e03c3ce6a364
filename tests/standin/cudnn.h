// What the files of cuDNN share: descriptors and status numbers of cuDNN 9.
#ifndef STANDIN_CUDNN_H
#define STANDIN_CUDNN_H

#include "host.h"

enum {
    SUCCESS = 0,
    NOT_INITIALIZED = 1001,
    BAD_PARAM = 2000,
    NULL_POINTER = 2002,
    SIZE_INSUFFICIENT = 2006,
    SHAPE_MISMATCH = 2008,
    NOT_SUPPORTED = 3000,
    ALLOCATION_FAILED = 4003,
    EXECUTION_FAILED = 5000,
};
enum { FLOAT = 0, NCHW = 0, NHWC = 1, CROSS_CORRELATION = 1 };

// `set` is false until a Set call has given a descriptor its shape. Strides are in elements.
struct cudnn {
    uint32_t magic;
    struct stream *stream;
};
struct tensor {
    uint32_t magic;
    bool set;
    int type, dims[4], strides[4];
};
struct filter {
    uint32_t magic;
    bool set;
    int type, format, dims[4];
};
struct convolution {
    uint32_t magic;
    bool set;
    int padding[2], stride[2], dilation[2], mode, type, math, groups;
};
enum { CUDNN = 0x6375646e, TENSOR = 0x54656e73, FILTER = 0x46696c74, CONVOLUTION = 0x436f6e76 };

enum pass { FORWARD, DATA, WEIGHTS };

// cudnnConvolution…AlgoPerf_t of all three passes.
struct performance {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};
enum { HALF_MATH = 2 };

// The bytes that an algorithm wants, or why it can't be had.
int standin_workspace(enum pass pass, const struct tensor *x, const struct filter *w, const struct convolution *it, const struct tensor *y,
                      int algorithm, size_t *bytes);

#define LIVE(handle, number) ((handle) && (handle)->magic == (number))

// How many floats lie between a tensor's first and last.
static inline size_t standin_span(const struct tensor *tensor) {
    size_t last = 0;
    for (int d = 0; d < 4; d++) last += (size_t)(tensor->dims[d] - 1) * (size_t)tensor->strides[d];
    return last + 1;
}
// Where value (k, c, r, s) of a filter lies: in NHWC places come before channels.
static inline size_t standin_filter_place(const struct filter *w, int k, int c, int r, int s) {
    const int *d = w->dims;
    if (w->format == NCHW) return (((size_t)k * d[1] + c) * d[2] + r) * d[3] + s;
    return (((size_t)k * d[2] + r) * d[3] + s) * d[1] + c;
}
static inline size_t standin_filter_size(const struct filter *filter) {
    return (size_t)filter->dims[0] * (size_t)filter->dims[1] * (size_t)filter->dims[2] * (size_t)filter->dims[3];
}

#endif
