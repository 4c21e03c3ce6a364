// The driver's modules, functions and launches. A module is the PTX of nvcc.sh; the kernels are functions of this library.
#include "host.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

CUresult cuModuleLoadData(struct module **out, const void *image) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!out || !image) return CUDA_ERROR_INVALID_VALUE;
    // PTX of a real nvcc loads too. A cubin has zero bytes early on and no .version.
    if (!strstr(image, ".version")) return CUDA_ERROR_INVALID_IMAGE;
    struct module *module = malloc(sizeof *module);
    char *text = strdup(image);
    if (!module || !text) return CUDA_ERROR_OUT_OF_MEMORY;
    *module = (struct module){MODULE, text};
    standin_count("modules", 1);
    *out = module;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(struct module **out, const void *image, unsigned options, void *names, void **values) {
    (void)options, (void)names, (void)values;
    return cuModuleLoadData(out, image);
}

CUresult cuModuleLoad(struct module **out, const char *path) {
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
    char *text = NULL;
    size_t bytes = 0;
    // To the first zero byte: PTX has none but at its end.
    ssize_t got = getdelim(&text, &bytes, 0, file);
    fclose(file);
    CUresult result = got > 0 ? cuModuleLoadData(out, text) : CUDA_ERROR_INVALID_IMAGE;
    free(text);
    return result;
}

CUresult cuModuleUnload(struct module *module) {
    if (!module || module->magic != MODULE) return CUDA_ERROR_INVALID_HANDLE;
    module->magic = DEAD;
    free(module->text);
    module->text = NULL;
    return CUDA_SUCCESS;
}

// True if the module's text has `.entry NAME`, or no entry at all (nvcc.sh can't see names that macros make).
static bool holds(const struct module *module, const char *name) {
    const char *at = strstr(module->text, ".entry ");
    if (!at) return true;
    size_t length = strlen(name);
    for (; at; at = strstr(at, ".entry ")) {
        at += strlen(".entry ");
        if (strncmp(at, name, length) == 0 && (at[length] == '(' || at[length] == ' ')) return true;
    }
    return false;
}

CUresult cuModuleGetFunction(struct function **out, struct module *module, const char *name) {
    if (!out || !name) return CUDA_ERROR_INVALID_VALUE;
    if (!module || module->magic != MODULE) return CUDA_ERROR_INVALID_HANDLE;
    static struct function *all;
    char symbol[256];
    snprintf(symbol, sizeof symbol, "standin_kernel_%s", name);
    void (*run)(void **) = (void (*)(void **))dlsym(RTLD_DEFAULT, symbol);
    if (!run || !holds(module, name)) {
        standin_say("kernel %s is %s", name, run ? "of another module" : "not there");
        return CUDA_ERROR_NOT_FOUND;
    }
    snprintf(symbol, sizeof symbol, "standin_bytes_%s", name);
    const size_t *bytes = dlsym(RTLD_DEFAULT, symbol);
    snprintf(symbol, sizeof symbol, "standin_sizes_%s", name);

    standin_lock();
    struct function *function = all;
    while (function && (function->module != module || strcmp(function->name, name) != 0)) function = function->next;
    if (!function) {
        function = calloc(1, sizeof *function + strlen(name) + 1);
        if (!function) standin_fail("no memory for a function");
        *function = (struct function){FUNCTION, module, run, bytes, dlsym(RTLD_DEFAULT, symbol), all};
        strcpy(function->name, name);
        all = function;
    }
    standin_unlock();
    *out = function;
    return CUDA_SUCCESS;
}

static bool alive(const struct function *function) {
    return function && function->magic == FUNCTION && function->module->magic == MODULE;
}

CUresult cuFuncGetName(const char **out, struct function *function) {
    if (!out || !alive(function)) return CUDA_ERROR_INVALID_VALUE;
    *out = function->name;
    return CUDA_SUCCESS;
}
// Our kernels have one parameter, the struct; candle's can't say.
CUresult cuFuncGetParamInfo(struct function *function, size_t index, size_t *offset, size_t *bytes) {
    if (!alive(function)) return CUDA_ERROR_INVALID_HANDLE;
    if (!function->bytes) return CUDA_ERROR_NOT_SUPPORTED;
    if (index || !offset) return CUDA_ERROR_INVALID_VALUE;
    *offset = 0;
    if (bytes) *bytes = *function->bytes;
    return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *value, unsigned attribute, struct function *function) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (!alive(function)) return CUDA_ERROR_INVALID_HANDLE;
    // 0: threads in a block; 4: registers of a thread; 5, 6: PTX and binary version; the rest (shared, constant, local memory) 0.
    *value = attribute == 0 ? 1024 : attribute == 4 ? 32 : attribute == 5 || attribute == 6 ? 90 : 0;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(struct function *function, unsigned attribute, int value) {
    (void)attribute, (void)value;
    return alive(function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}
CUresult cuFuncSetCacheConfig(struct function *function, unsigned config) {
    (void)config;
    return alive(function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

// As if only the number of threads counted: 2048 on a multiprocessor, 132 of those.
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, struct function *function, int threads, size_t shared,
                                                              unsigned flags) {
    (void)shared, (void)flags;
    if (!alive(function)) return CUDA_ERROR_INVALID_HANDLE;
    if (!blocks || threads < 1) return CUDA_ERROR_INVALID_VALUE;
    *blocks = threads > 1024 ? 0 : 2048 / threads > 32 ? 32 : 2048 / threads;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, struct function *function, int threads, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, struct function *function, void *shared_of,
                                                   size_t shared, int limit, unsigned flags) {
    (void)shared_of, (void)shared, (void)flags;
    if (!alive(function)) return CUDA_ERROR_INVALID_HANDLE;
    if (!grid || !block) return CUDA_ERROR_INVALID_VALUE;
    *block = limit > 0 && limit < 1024 ? limit : 1024;
    *grid = 132 * (2048 / *block);
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, struct function *function, void *shared_of, size_t shared,
                                          int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of, shared, limit, 0);
}

struct launch {
    struct function *function;
    struct dimensions grid, block;
    void **params;
};
static int run_now(void *arguments) {
    const struct launch *it = arguments;
    if (!alive(it->function)) return CUDA_ERROR_INVALID_HANDLE;
    char counter[256];
    snprintf(counter, sizeof counter, "launch_%s", it->function->name);
    standin_lock();
    standin_count(counter, 1);
    if (!standin_rests()) standin_launch(it->function->name, it->function->run, it->params, it->grid, it->block);
    // Here already, and not only when somebody waits: now it is known who wrote there.
    standin_check_guards(it->function->name);
    standin_unlock();
    return CUDA_SUCCESS;
}

// cuda.h: 4 KB of parameters. One of ours has all of them; several of candle's have 16 bytes each.
enum { MOST_PARAMETERS = 4096, MOST = 8, EACH = 16 };
struct captured {
    struct launch launch;
    char parameters[MOST_PARAMETERS] __attribute__((aligned(16)));
};
static int run_captured(void *arguments) {
    struct captured *it = arguments;
    void *params[MOST];
    for (size_t at = 0; at < MOST; at++) params[at] = it->parameters + EACH * at;
    it->launch.params = params;
    return run_now(&it->launch);
}

static CUresult launch(struct function *function, struct dimensions grid, struct dimensions block, unsigned shared,
                       struct stream *stream, void **params, void **extra) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!alive(function) || !standin_stream_ok(stream)) return CUDA_ERROR_INVALID_HANDLE;
    // The limits of compute capability 9.0. `extra` is the other way to give parameters, which nobody here takes.
    bool sizes = grid.x && grid.y && grid.z && block.x && block.y && block.z && grid.x <= 2147483647u && grid.y <= 65535 &&
                 grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                 (uint64_t)block.x * block.y * block.z <= 1024;
    if (!sizes || shared > 232448 || !params || extra) {
        standin_say("launch of %s: grid (%u, %u, %u), block (%u, %u, %u), %u bytes of shared memory", function->name, grid.x,
                    grid.y, grid.z, block.x, block.y, block.z, shared);
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct launch it = {function, grid, block, params};
    // A node, and work that is late, keep the parameters' values. Most of candle's kernels can't say how long theirs are.
    bool captures = standin_capturing(stream);
    bool keeps = function->bytes ? *function->bytes <= MOST_PARAMETERS : function->sizes && !captures;
    if (captures && !keeps) return standin_uncaptured(stream, function->name);
    if (!captures && !(keeps && standin_is_late(stream))) {
        int result = standin_order_now(stream, "launches", run_now, &it, sizeof it);
        return result == REFUSED ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : result;
    }
    struct captured node = {.launch = it};
    if (function->bytes) memcpy(node.parameters, params[0], *function->bytes);
    for (size_t at = 0; function->sizes && function->sizes[at]; at++)
        memcpy(node.parameters + EACH * at, params[at], function->sizes[at]);
    int result = standin_order(stream, "launches", run_captured, &node, sizeof node);
    return result == REFUSED ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : result;
}

CUresult cuLaunchKernel(struct function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, struct stream *stream, void **params, void **extra) {
    return launch(function, (struct dimensions){grid_x, grid_y, grid_z}, (struct dimensions){block_x, block_y, block_z}, shared,
                  stream, params, extra);
}

// CUlaunchConfig; its attributes (clusters and the like) are not looked at.
struct config {
    struct dimensions grid, block;
    unsigned shared;
    struct stream *stream;
    void *attributes;
    unsigned count;
};
CUresult cuLaunchKernelEx(const struct config *config, struct function *function, void **params, void **extra) {
    if (!config) return CUDA_ERROR_INVALID_VALUE;
    return launch(function, config->grid, config->block, config->shared, config->stream, params, extra);
}
