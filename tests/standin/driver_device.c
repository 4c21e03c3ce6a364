// The driver's devices, contexts and error names.
#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static bool initialised;
static struct context contexts[16];
static _Thread_local struct context *stack[16];
static _Thread_local int depth;

struct context *standin_context(void) { return depth ? stack[depth - 1] : NULL; }

CUresult cuInit(unsigned flags) {
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    if (standin_devices() == 0) return CUDA_ERROR_NO_DEVICE;
    initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    *version = 13000;
    return CUDA_SUCCESS;
}

static CUresult known(int device) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return device < 0 || device >= standin_devices() ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = standin_devices();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(int *device, int ordinal) {
    CUresult result = known(ordinal);
    if (result) return result;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int bytes, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!name || bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, (size_t)bytes, "Stand-in GPU");
    return CUDA_SUCCESS;
}

// "Stand-in GPU" and the ordinal, so that devices differ and a run's do not.
static CUresult uuid(unsigned char *out, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    memcpy(out, "Stand-in GPU\0\0\0", 15);
    out[15] = (unsigned char)device;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(unsigned char *out, int device) { return uuid(out, device); }
CUresult cuDeviceGetUuid_v2(unsigned char *out, int device) { return uuid(out, device); }

CUresult cuDeviceGetPCIBusId(char *out, int bytes, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!out || bytes < 13) return CUDA_ERROR_INVALID_VALUE;
    snprintf(out, (size_t)bytes, "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    *bytes = standin_total_memory();
    return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, int device, int peer) {
    CUresult result = known(device) ? known(device) : known(peer);
    if (result) return result;
    if (!can) return CUDA_ERROR_INVALID_VALUE;
    *can = 0;
    return CUDA_SUCCESS;
}

// An H100's numbers, by cuda.h's number of the attribute; what is not here is 0.
CUresult cuDeviceGetAttribute(int *value, unsigned attribute, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
    case 1: *value = 1024; break; // threads in a block
    case 2:
    case 3: *value = 1024; break;       // block x, y
    case 4: *value = 64; break;         // block z
    case 5: *value = 2147483647; break; // grid x
    case 6:
    case 7: *value = 65535; break;    // grid y, z
    case 8: *value = 49152; break;    // shared memory of a block
    case 9: *value = 65536; break;    // constant memory
    case 10: *value = 32; break;      // warp
    case 12: *value = 65536; break;   // registers of a block
    case 13: *value = 1980000; break; // clock, kHz
    case 15:
    case 40: *value = 1; break;   // copies overlap kernels; engines for copies
    case 16: *value = 132; break; // multiprocessors
    case 19:
    case 31:
    case 41: *value = 1; break;          // maps host memory, concurrent kernels, unified addressing
    case 33: *value = device + 1; break; // PCI bus
    case 36: *value = 2619000; break;    // memory clock, kHz
    case 37: *value = 5120; break;       // memory bus, bits
    case 38: *value = 50 << 20; break;   // L2 cache
    case 39: *value = 2048; break;       // threads on a multiprocessor
    case 75: *value = 9; break;          // compute capability 9.0
    case 76: *value = 0; break;
    case 78: *value = 1; break;      // stream priorities
    case 81: *value = 233472; break; // shared memory of a multiprocessor
    case 82: *value = 65536; break;  // registers of a multiprocessor
    case 95: *value = 1; break;      // cooperative launch
    case 97: *value = 232448; break; // shared memory of a block that asks for it
    case 106: *value = 32; break;    // blocks on a multiprocessor
    case 115: *value = 1; break;     // memory pools
    default: *value = 0;
    }
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(struct context **context, int device) {
    CUresult result = known(device);
    if (result) return result;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    contexts[device] = (struct context){CONTEXT, device};
    *context = &contexts[device];
    return CUDA_SUCCESS;
}

// The primary context stays usable: handles that outlive it are CUDA's to complain about, and it does not.
CUresult cuDevicePrimaryCtxRelease_v2(int device) { return known(device); }
CUresult cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    (void)flags;
    return known(device);
}
CUresult cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    CUresult result = known(device);
    if (result) return result;
    if (!flags || !active) return CUDA_ERROR_INVALID_VALUE;
    *flags = 0;
    *active = contexts[device].magic == CONTEXT;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(struct context *context) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (context && context->magic != CONTEXT) return CUDA_ERROR_INVALID_CONTEXT;
    if (!context) {
        depth -= depth > 0;
        return CUDA_SUCCESS;
    }
    depth += depth == 0;
    stack[depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(struct context **context) {
    if (!initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = standin_context();
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(struct context *context) {
    if (!context || context->magic != CONTEXT) return CUDA_ERROR_INVALID_CONTEXT;
    if (depth == 16) return CUDA_ERROR_INVALID_VALUE;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(struct context **context) {
    if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(int *device) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = standin_context()->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned flags) {
    (void)flags;
    return standin_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    CUresult result = standin_whole_context("cuCtxSynchronize");
    if (!result) result = standin_catch_up(NULL);
    if (result) return result;
    standin_count("synchronisations", 1);
    standin_check_guards("cuCtxSynchronize");
    return CUDA_SUCCESS;
}

static const struct {
    CUresult number;
    const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

static CUresult error(CUresult number, const char **out, bool name) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    for (size_t at = 0; at < sizeof errors / sizeof *errors; at++)
        if (errors[at].number == number) {
            *out = name ? errors[at].name : errors[at].text;
            return CUDA_SUCCESS;
        }
    *out = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuGetErrorName(CUresult number, const char **out) { return error(number, out, true); }
CUresult cuGetErrorString(CUresult number, const char **out) { return error(number, out, false); }
