// The driver's memory calls. Every copy is done when its call returns, on whatever stream it was ordered.
#include "host.h"

#include <string.h>

static CUresult ready(const struct stream *stream) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    return standin_stream_ok(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult allocate(CUdeviceptr *out, size_t bytes, const struct stream *stream) {
    CUresult result = ready(stream);
    if (result) return result;
    return standin_allocate((void **)out, bytes, standin_context()->device, 0);
}
CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) { return allocate(out, bytes, NULL); }
CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, struct stream *stream) { return allocate(out, bytes, stream); }
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, void *pool, struct stream *stream) {
    return pool ? allocate(out, bytes, stream) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult release(CUdeviceptr pointer, const struct stream *stream) {
    CUresult result = ready(stream);
    if (result) return result;
    // cuMemFree takes null and does nothing.
    if (pointer) standin_free((void *)pointer, false);
    return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr pointer) { return release(pointer, NULL); }
CUresult cuMemFreeAsync(CUdeviceptr pointer, struct stream *stream) { return release(pointer, stream); }

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    return standin_allocate(out, bytes, HOST, flags);
}
CUresult cuMemAllocHost_v2(void **out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
CUresult cuMemFreeHost(void *pointer) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (pointer) standin_free(pointer, true);
    return CUDA_SUCCESS;
}
CUresult cuMemHostGetFlags(unsigned *flags, void *pointer) {
    struct found found;
    if (!flags || !standin_find(pointer, 1, &found) || found.device != HOST) return CUDA_ERROR_INVALID_VALUE;
    *flags = found.flags;
    return CUDA_SUCCESS;
}
// A device may read page-locked memory at its own address.
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *pointer, unsigned flags) {
    struct found found;
    if (!out || flags || !standin_find(pointer, 1, &found) || found.device != HOST) return CUDA_ERROR_INVALID_VALUE;
    *out = (CUdeviceptr)pointer;
    return CUDA_SUCCESS;
}
CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags) {
    (void)flags;
    return pointer && bytes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemHostUnregister(void *pointer) { return pointer ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

CUresult cuMemGetInfo_v2(size_t *unused, size_t *total) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!unused || !total) return CUDA_ERROR_INVALID_VALUE;
    *unused = standin_free_memory(standin_context()->device);
    *total = standin_total_memory();
    return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer) {
    struct found found;
    if (!standin_find((void *)pointer, 1, &found) || found.device == HOST) return CUDA_ERROR_INVALID_VALUE;
    if (base) *base = (CUdeviceptr)found.base;
    if (bytes) *bytes = found.bytes;
    return CUDA_SUCCESS;
}

enum direction { H2D, D2H, D2D };
static const char *const names[][2] = {{"h2d", "h2d_bytes"}, {"d2h", "d2h_bytes"}, {"d2d", "d2d_bytes"}};

static CUresult copy(enum direction direction, void *to, const void *from, size_t bytes, const struct stream *stream) {
    CUresult result = ready(stream);
    if (result) return result;
    if (bytes == 0) return CUDA_SUCCESS;
    bool to_device = direction != D2H, from_device = direction != H2D;
    if (!to || !from) return CUDA_ERROR_INVALID_VALUE;
    // A device address on the host's side is a swap of arguments or of functions.
    if (standin_on_device(to, to_device ? bytes : 1) != to_device ||
        standin_on_device(from, from_device ? bytes : 1) != from_device) {
        standin_say("%s of %zu bytes from %p to %p: not within live memory of that side", names[direction][0], bytes, from, to);
        return CUDA_ERROR_INVALID_VALUE;
    }
    memmove(to, from, bytes);
    standin_count(names[direction][0], 1);
    standin_count(names[direction][1], bytes);
    return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) { return copy(H2D, (void *)to, from, bytes, NULL); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, struct stream *stream) {
    return copy(H2D, (void *)to, from, bytes, stream);
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) { return copy(D2H, to, (void *)from, bytes, NULL); }
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, struct stream *stream) {
    return copy(D2H, to, (void *)from, bytes, stream);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy(D2D, (void *)to, (void *)from, bytes, NULL);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, struct stream *stream) {
    return copy(D2D, (void *)to, (void *)from, bytes, stream);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, struct context *there, CUdeviceptr from, struct context *here, size_t bytes,
                           struct stream *stream) {
    if (!there || !here) return CUDA_ERROR_INVALID_CONTEXT;
    return copy(D2D, (void *)to, (void *)from, bytes, stream);
}

// cuMemcpy finds out by itself what is whose.
static CUresult copy_any(CUdeviceptr to, CUdeviceptr from, size_t bytes, const struct stream *stream) {
    bool to_device = standin_on_device((void *)to, 1), from_device = standin_on_device((void *)from, 1);
    if (!to_device && !from_device) return CUDA_ERROR_NOT_SUPPORTED;
    return copy(to_device ? from_device ? D2D : H2D : D2H, (void *)to, (void *)from, bytes, stream);
}
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy_any(to, from, bytes, NULL); }
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, struct stream *stream) {
    return copy_any(to, from, bytes, stream);
}

// N words of `width` bytes, each `word`.
static CUresult set(CUdeviceptr at, unsigned word, size_t width, size_t words, const struct stream *stream) {
    CUresult result = ready(stream);
    if (result) return result;
    if (words == 0) return CUDA_SUCCESS;
    if (at % width || words > SIZE_MAX / width || !standin_on_device((void *)at, words * width)) return CUDA_ERROR_INVALID_VALUE;
    if (width == 1) memset((void *)at, (int)word, words);
    else
        for (size_t index = 0; index < words; index++) memcpy((char *)at + index * width, &word, width);
    standin_count("memsets", 1);
    standin_count("memset_bytes", words * width);
    return CUDA_SUCCESS;
}
CUresult cuMemsetD8_v2(CUdeviceptr at, unsigned char word, size_t words) { return set(at, word, 1, words, NULL); }
CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char word, size_t words, struct stream *stream) {
    return set(at, word, 1, words, stream);
}
CUresult cuMemsetD16_v2(CUdeviceptr at, unsigned short word, size_t words) { return set(at, word, 2, words, NULL); }
CUresult cuMemsetD16Async(CUdeviceptr at, unsigned short word, size_t words, struct stream *stream) {
    return set(at, word, 2, words, stream);
}
CUresult cuMemsetD32_v2(CUdeviceptr at, unsigned word, size_t words) { return set(at, word, 4, words, NULL); }
CUresult cuMemsetD32Async(CUdeviceptr at, unsigned word, size_t words, struct stream *stream) {
    return set(at, word, 4, words, stream);
}

// One pool for all: its attributes are kept and change nothing. Ints up to 3, 64 bits from 4 (the threshold) on.
static struct {
    int flags[8];
    uint64_t numbers[16];
} pool = {.flags = {0, 1, 1, 1}};
CUresult cuDeviceGetDefaultMemPool(void **out, int device) {
    if (!out || device < 0 || device >= standin_devices()) return CUDA_ERROR_INVALID_VALUE;
    *out = &pool;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetMemPool(void **out, int device) { return cuDeviceGetDefaultMemPool(out, device); }
CUresult cuDeviceSetMemPool(int device, void *it) {
    (void)device;
    return it == &pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemPoolGetAttribute(void *it, unsigned attribute, void *value) {
    if (it != &pool || !value || attribute < 1 || attribute > 8) return CUDA_ERROR_INVALID_VALUE;
    if (attribute < 4) memcpy(value, &pool.flags[attribute], sizeof(int));
    else memcpy(value, &pool.numbers[attribute], sizeof(uint64_t));
    return CUDA_SUCCESS;
}
CUresult cuMemPoolSetAttribute(void *it, unsigned attribute, void *value) {
    if (it != &pool || !value || attribute < 1 || attribute > 8) return CUDA_ERROR_INVALID_VALUE;
    if (attribute < 4) memcpy(&pool.flags[attribute], value, sizeof(int));
    else memcpy(&pool.numbers[attribute], value, sizeof(uint64_t));
    return CUDA_SUCCESS;
}
CUresult cuMemPoolTrimTo(void *it, size_t keep) {
    (void)keep;
    return it == &pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
