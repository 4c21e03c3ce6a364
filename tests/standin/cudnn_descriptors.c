// cuDNN's handle and descriptors: f32, four dimensions, NCHW (a tensor may have other strides, a filter may not).
#include "cudnn.h"

#include <string.h>

// 9.21 is what cudarc's feature `cudnn` stands for.
size_t cudnnGetVersion(void) { return 92100; }
size_t cudnnGetCudartVersion(void) { return 13000; }
size_t cudnnGetMaxDeviceVersion(void) { return 1210; }
int cudnnGetProperty(int which, int *value) {
    if (!value || which < 0 || which > 2) return BAD_PARAM;
    *value = which == 0 ? 9 : which == 1 ? 21 : 0;
    return SUCCESS;
}

const char *cudnnGetErrorString(int status) {
    switch (status) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUDNN_STATUS_NOT_INITIALIZED";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case NULL_POINTER: return "CUDNN_STATUS_BAD_PARAM_NULL_POINTER";
    case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case SHAPE_MISMATCH: return "CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case ALLOCATION_FAILED: return "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED";
    case EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}
void cudnnGetLastErrorString(char *message, size_t bytes) {
    if (message && bytes) *message = 0;
}

int cudnnCreate(struct cudnn **out) {
    if (!out) return NULL_POINTER;
    if (standin_devices() == 0) return NOT_INITIALIZED;
    *out = calloc(1, sizeof **out);
    if (!*out) return ALLOCATION_FAILED;
    (*out)->magic = CUDNN;
    return SUCCESS;
}
int cudnnDestroy(struct cudnn *handle) {
    if (!LIVE(handle, CUDNN)) return BAD_PARAM;
    handle->magic = DEAD;
    free(handle);
    return SUCCESS;
}
int cudnnSetStream(struct cudnn *handle, struct stream *stream) {
    if (!LIVE(handle, CUDNN) || !standin_stream_ok(stream)) return BAD_PARAM;
    handle->stream = stream;
    return SUCCESS;
}
int cudnnGetStream(struct cudnn *handle, struct stream **stream) {
    if (!LIVE(handle, CUDNN) || !stream) return BAD_PARAM;
    *stream = handle->stream;
    return SUCCESS;
}

// Create and Destroy are alike for all descriptors.
#define DESCRIPTOR(word, kind, number)                                                                                           \
    int cudnnCreate##word##Descriptor(struct kind **out) {                                                                       \
        if (!out) return NULL_POINTER;                                                                                           \
        *out = calloc(1, sizeof **out);                                                                                          \
        if (!*out) return ALLOCATION_FAILED;                                                                                     \
        (*out)->magic = number;                                                                                                  \
        return SUCCESS;                                                                                                          \
    }                                                                                                                            \
    int cudnnDestroy##word##Descriptor(struct kind *it) {                                                                        \
        if (!LIVE(it, number)) return BAD_PARAM;                                                                                 \
        it->magic = DEAD;                                                                                                        \
        free(it);                                                                                                                \
        return SUCCESS;                                                                                                          \
    }
DESCRIPTOR(Tensor, tensor, TENSOR)
DESCRIPTOR(Filter, filter, FILTER)
DESCRIPTOR(Convolution, convolution, CONVOLUTION)

int cudnnSetTensor4dDescriptorEx(struct tensor *it, int type, int n, int c, int h, int w, int n_stride, int c_stride,
                                 int h_stride, int w_stride) {
    if (!LIVE(it, TENSOR) || n < 1 || c < 1 || h < 1 || w < 1 || n_stride < 1 || c_stride < 1 || h_stride < 1 || w_stride < 1)
        return BAD_PARAM;
    if (type != FLOAT) return NOT_SUPPORTED;
    *it = (struct tensor){TENSOR, true, type, {n, c, h, w}, {n_stride, c_stride, h_stride, w_stride}};
    return SUCCESS;
}
int cudnnSetTensor4dDescriptor(struct tensor *it, int format, int type, int n, int c, int h, int w) {
    if (format == NHWC) return cudnnSetTensor4dDescriptorEx(it, type, n, c, h, w, c * h * w, 1, c * w, c);
    if (format != NCHW) return NOT_SUPPORTED;
    return cudnnSetTensor4dDescriptorEx(it, type, n, c, h, w, c * h * w, h * w, w, 1);
}
int cudnnGetTensor4dDescriptor(struct tensor *it, int *type, int *n, int *c, int *h, int *w, int *n_stride, int *c_stride,
                               int *h_stride, int *w_stride) {
    if (!LIVE(it, TENSOR) || !it->set) return BAD_PARAM;
    if (!type || !n || !c || !h || !w || !n_stride || !c_stride || !h_stride || !w_stride) return NULL_POINTER;
    *type = it->type;
    *n = it->dims[0], *c = it->dims[1], *h = it->dims[2], *w = it->dims[3];
    *n_stride = it->strides[0], *c_stride = it->strides[1], *h_stride = it->strides[2], *w_stride = it->strides[3];
    return SUCCESS;
}
int cudnnGetTensorSizeInBytes(struct tensor *it, size_t *bytes) {
    if (!LIVE(it, TENSOR) || !it->set || !bytes) return BAD_PARAM;
    *bytes = standin_span(it) * sizeof(float);
    return SUCCESS;
}

int cudnnSetFilter4dDescriptor(struct filter *it, int type, int format, int k, int c, int h, int w) {
    if (!LIVE(it, FILTER) || k < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    if (type != FLOAT || (format != NCHW && format != NHWC)) return NOT_SUPPORTED;
    *it = (struct filter){FILTER, true, type, format, {k, c, h, w}};
    return SUCCESS;
}
int cudnnGetFilter4dDescriptor(struct filter *it, int *type, int *format, int *k, int *c, int *h, int *w) {
    if (!LIVE(it, FILTER) || !it->set) return BAD_PARAM;
    if (!type || !format || !k || !c || !h || !w) return NULL_POINTER;
    *type = it->type, *format = it->format;
    *k = it->dims[0], *c = it->dims[1], *h = it->dims[2], *w = it->dims[3];
    return SUCCESS;
}
int cudnnGetFilterSizeInBytes(struct filter *it, size_t *bytes) {
    if (!LIVE(it, FILTER) || !it->set || !bytes) return BAD_PARAM;
    *bytes = standin_filter_size(it) * sizeof(float);
    return SUCCESS;
}

int cudnnSetConvolution2dDescriptor(struct convolution *it, int pad_h, int pad_w, int u, int v, int dilation_h, int dilation_w,
                                    int mode, int type) {
    if (!LIVE(it, CONVOLUTION) || pad_h < 0 || pad_w < 0 || u < 1 || v < 1 || dilation_h < 1 || dilation_w < 1 || mode < 0 ||
        mode > 1)
        return BAD_PARAM;
    if (type != FLOAT) return NOT_SUPPORTED;
    int math = it->math;
    *it = (struct convolution){CONVOLUTION, true, {pad_h, pad_w}, {u, v}, {dilation_h, dilation_w}, mode, type, math, 1};
    return SUCCESS;
}
int cudnnGetConvolution2dDescriptor(struct convolution *it, int *pad_h, int *pad_w, int *u, int *v, int *dilation_h,
                                    int *dilation_w, int *mode, int *type) {
    if (!LIVE(it, CONVOLUTION) || !it->set) return BAD_PARAM;
    if (!pad_h || !pad_w || !u || !v || !dilation_h || !dilation_w || !mode || !type) return NULL_POINTER;
    *pad_h = it->padding[0], *pad_w = it->padding[1], *u = it->stride[0], *v = it->stride[1];
    *dilation_h = it->dilation[0], *dilation_w = it->dilation[1], *mode = it->mode, *type = it->type;
    return SUCCESS;
}
// Math types change nothing here: products are exact and sums are f64.
int cudnnSetConvolutionMathType(struct convolution *it, int math) {
    if (!LIVE(it, CONVOLUTION) || math < 0 || math > 3) return BAD_PARAM;
    it->math = math;
    return SUCCESS;
}
int cudnnGetConvolutionMathType(struct convolution *it, int *math) {
    if (!LIVE(it, CONVOLUTION) || !math) return BAD_PARAM;
    *math = it->math;
    return SUCCESS;
}
int cudnnSetConvolutionGroupCount(struct convolution *it, int groups) {
    if (!LIVE(it, CONVOLUTION) || groups < 1) return BAD_PARAM;
    if (groups != 1) return NOT_SUPPORTED;
    it->groups = groups;
    return SUCCESS;
}
int cudnnGetConvolutionGroupCount(struct convolution *it, int *groups) {
    if (!LIVE(it, CONVOLUTION) || !groups) return BAD_PARAM;
    *groups = it->groups;
    return SUCCESS;
}
int cudnnSetConvolutionReorderType(struct convolution *it, int reorder) {
    (void)reorder;
    return LIVE(it, CONVOLUTION) ? SUCCESS : BAD_PARAM;
}
