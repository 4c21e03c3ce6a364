// The driver's memory calls.
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
CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes) {
    CUresult captured = standin_unsafe("cuMemAlloc");
    return captured ? captured : allocate(out, bytes, NULL);
}
// On a stream that captures this would be memory of the graph, which comes and goes with each launch; nobody here asks for that.
CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, struct stream *stream) {
    CUresult result = ready(stream);
    if (!result && standin_capturing(stream)) result = standin_uncaptured(stream, "cuMemAllocAsync");
    return result ? result : allocate(out, bytes, stream);
}
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, void *pool, struct stream *stream) {
    return pool ? cuMemAllocAsync(out, bytes, stream) : CUDA_ERROR_INVALID_VALUE;
}

static int run_free(void *arguments) {
    // cuMemFree takes null and does nothing.
    void *start = *(void **)arguments;
    if (start) standin_free(start, false);
    return CUDA_SUCCESS;
}
CUresult cuMemFree_v2(CUdeviceptr pointer) {
    CUresult result = standin_unsafe("cuMemFree");
    if (!result) result = ready(NULL);
    if (!result) result = standin_catch_up(NULL);
    return result ? result : (CUresult)run_free(&pointer);
}
CUresult cuMemFreeAsync(CUdeviceptr pointer, struct stream *stream) {
    CUresult result = ready(stream);
    if (!result && standin_capturing(stream)) result = standin_uncaptured(stream, "cuMemFreeAsync");
    if (result) return result;
    if (!standin_is_late(stream)) return (CUresult)run_free(&pointer);
    standin_put_off(stream, "frees", run_free, &pointer, sizeof pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult captured = standin_unsafe("cuMemHostAlloc");
    return captured ? captured : standin_allocate(out, bytes, HOST, flags);
}
CUresult cuMemAllocHost_v2(void **out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
CUresult cuMemFreeHost(void *pointer) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult captured = standin_unsafe("cuMemFreeHost");
    if (captured) return captured;
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

struct copy {
    enum direction direction;
    void *to;
    const void *from;
    size_t bytes;
    bool pinned; // the host's side
};
static CUresult check(const struct copy *it) {
    bool to_device = it->direction != D2H, from_device = it->direction != H2D;
    if (!it->to || !it->from) return CUDA_ERROR_INVALID_VALUE;
    // A device address on the host's side is a swap of arguments or of functions.
    if (standin_on_device(it->to, to_device ? it->bytes : 1) != to_device ||
        standin_on_device(it->from, from_device ? it->bytes : 1) != from_device) {
        standin_say("%s of %zu bytes from %p to %p: not within live memory of that side", names[it->direction][0], it->bytes,
                    it->from, it->to);
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
static int run_copy(void *arguments) {
    const struct copy *it = arguments;
    CUresult result = check(it);
    if (result) return result;
    if (it->pinned && !standin_find(it->direction == H2D ? it->from : it->to, it->bytes, NULL))
        standin_fail("%s of %zu bytes: the host's memory was freed before the copy was done", names[it->direction][0], it->bytes);
    if (standin_rests()) return CUDA_SUCCESS;
    memmove(it->to, it->from, it->bytes);
    standin_count(names[it->direction][1], it->bytes);
    return CUDA_SUCCESS;
}

static int run_copy_of_aside(void *arguments) {
    const struct copy *it = arguments;
    int result = run_copy(arguments);
    free((void *)it->from);
    return result;
}

static CUresult invalidated(int result) { return result == REFUSED ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : result; }

static CUresult copy(enum direction direction, void *to, const void *from, size_t bytes, struct stream *stream) {
    CUresult result = ready(stream);
    if (result || bytes == 0) return result;
    struct copy it = {direction, to, from, bytes, false};
    result = check(&it);
    if (result) return result;
    struct found found;
    bool paged = direction != D2D && (!standin_find(direction == H2D ? from : to, bytes, &found) || found.device != HOST);
    it.pinned = direction != D2D && !paged;
    // A node reads the host's memory when the graph runs: it must stay where it is.
    if (standin_capturing(stream) && paged) return standin_uncaptured(stream, "a copy from or to memory that may be paged");
    if (standin_is_late(stream) && paged) {
        // Such a copy is done when the call returns, but for one to the device, which is done aside.
        if (direction == D2H) return invalidated(standin_order_now(stream, names[direction][0], run_copy, &it, sizeof it));
        void *aside = malloc(bytes);
        if (!aside) standin_fail("no memory for a copy aside");
        it.from = memcpy(aside, from, bytes);
        return invalidated(standin_order(stream, names[direction][0], run_copy_of_aside, &it, sizeof it));
    }
    return invalidated(standin_order(stream, names[direction][0], run_copy, &it, sizeof it));
}
// Those without a stream wait for themselves.
static CUresult copy_now(enum direction direction, void *to, const void *from, size_t bytes) {
    CUresult captured = standin_unsafe("cuMemcpy");
    return captured ? captured : copy(direction, to, from, bytes, NULL);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) { return copy_now(H2D, (void *)to, from, bytes); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, struct stream *stream) {
    return copy(H2D, (void *)to, from, bytes, stream);
}
CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) { return copy_now(D2H, to, (void *)from, bytes); }
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, struct stream *stream) {
    return copy(D2H, to, (void *)from, bytes, stream);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_now(D2D, (void *)to, (void *)from, bytes);
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
static bool direction_of(CUdeviceptr to, CUdeviceptr from, enum direction *direction) {
    bool to_device = standin_on_device((void *)to, 1), from_device = standin_on_device((void *)from, 1);
    *direction = to_device ? from_device ? D2D : H2D : D2H;
    return to_device || from_device;
}
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    enum direction direction;
    return direction_of(to, from, &direction) ? copy_now(direction, (void *)to, (void *)from, bytes) : CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, struct stream *stream) {
    enum direction direction;
    if (!direction_of(to, from, &direction)) return CUDA_ERROR_NOT_SUPPORTED;
    return copy(direction, (void *)to, (void *)from, bytes, stream);
}

// N words of `width` bytes, each `word`.
struct set {
    CUdeviceptr at;
    unsigned word;
    size_t width, words;
};
static int run_set(void *arguments) {
    if (standin_rests()) return 0;
    const struct set *it = arguments;
    if (!standin_on_device((void *)it->at, it->words * it->width)) return CUDA_ERROR_INVALID_VALUE;
    if (it->width == 1) memset((void *)it->at, (int)it->word, it->words);
    else
        for (size_t index = 0; index < it->words; index++) memcpy((char *)it->at + index * it->width, &it->word, it->width);
    standin_count("memset_bytes", it->words * it->width);
    return CUDA_SUCCESS;
}
static CUresult set(CUdeviceptr at, unsigned word, size_t width, size_t words, struct stream *stream) {
    CUresult result = ready(stream);
    if (result) return result;
    if (words == 0) return CUDA_SUCCESS;
    if (at % width || words > SIZE_MAX / width || !standin_on_device((void *)at, words * width)) return CUDA_ERROR_INVALID_VALUE;
    struct set it = {at, word, width, words};
    return invalidated(standin_order(stream, "memsets", run_set, &it, sizeof it));
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
