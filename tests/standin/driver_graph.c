// The driver's graphs. While a stream captures, what it is asked for becomes a node, with a copy of its arguments, and is not done;
// launching the graph does the nodes in their order. What CUDA forbids meanwhile fails with CUDA's error, and ends the capture.
#include "host.h"

#include <stdalign.h>
#include <string.h>

struct node {
    struct node *next;
    const char *what;
    int (*run)(void *);
    size_t bytes;
    alignas(16) char arguments[];
};
// A CUgraph or a CUgraphExec: they differ in their number.
struct graph {
    uint32_t magic;
    struct node *first, **last;
    size_t nodes;
};
// GLOBAL captures look at what all threads do, THREAD_LOCAL ones at their own, RELAXED ones at none.
enum mode { GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };
struct capture {
    struct capture *next; // of all there are
    struct stream *stream;
    struct graph *graph;
    enum mode mode;
    const void *thread; // who began it
    bool invalid;
};
static struct capture *captures;
static _Thread_local char thread;

static void invalidate(struct capture *capture, const char *call) {
    standin_say("%s while a stream captures: the capture is invalid", call);
    capture->invalid = true;
    standin_count("captures_invalidated", 1);
}

bool standin_capturing(const struct stream *stream) { return !standin_is_default(stream) && stream->capture; }

CUresult standin_unsafe(const char *call) {
    CUresult result = CUDA_SUCCESS;
    standin_lock();
    for (struct capture *at = captures; at; at = at->next)
        if (at->mode == GLOBAL || (at->mode == THREAD_LOCAL && at->thread == &thread)) {
            invalidate(at, call);
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    standin_unlock();
    return result;
}

CUresult standin_uncaptured(struct stream *stream, const char *call) {
    if (!standin_capturing(stream)) return CUDA_SUCCESS;
    invalidate(stream->capture, call);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult standin_whole_context(const char *call) {
    CUresult result = CUDA_SUCCESS;
    standin_lock();
    for (struct capture *at = captures; at; at = at->next)
        if (at->stream->context == standin_context()) {
            invalidate(at, call);
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    standin_unlock();
    return result;
}

// A stream that was made with CU_STREAM_NON_BLOCKING (1) does not care for the legacy stream (0, 1); 2 is the thread's own.
CUresult standin_legacy(const struct stream *stream, const char *call) {
    if (!standin_is_default(stream) || (uintptr_t)stream == 2) return CUDA_SUCCESS;
    CUresult result = CUDA_SUCCESS;
    standin_lock();
    for (struct capture *at = captures; at; at = at->next)
        if (at->stream->context == standin_context() && !(at->stream->flags & 1)) {
            invalidate(at, call);
            result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    standin_unlock();
    return result;
}

static void append(struct graph *graph, const char *what, int (*run)(void *), const void *arguments, size_t bytes) {
    struct node *node = aligned_alloc(16, (sizeof *node + bytes + 15) / 16 * 16);
    if (!node) standin_fail("no memory for a node of a graph");
    *node = (struct node){NULL, what, run, bytes};
    memcpy(node->arguments, arguments, bytes);
    *graph->last = node;
    graph->last = &node->next;
    graph->nodes++;
}

// The run gets its own copy each time: it may change it, and the next launch must not see that.
static int execute(int (*run)(void *), const void *arguments, size_t bytes) {
    alignas(16) char few[1024];
    char *copy = bytes <= sizeof few ? few : aligned_alloc(16, (bytes + 15) / 16 * 16);
    if (!copy) standin_fail("no memory for the arguments of a call");
    memcpy(copy, arguments, bytes);
    int result = run(copy);
    if (copy != few) free(copy);
    return result;
}

int standin_order(struct stream *stream, const char *what, int (*run)(void *), const void *arguments, size_t bytes) {
    if (!standin_capturing(stream)) {
        // the legacy stream joins streams that capture, and there it ends
        if (standin_legacy(stream, what)) return REFUSED;
        standin_count(what, 1);
        return execute(run, arguments, bytes);
    }
    if (stream->capture->invalid) return REFUSED;
    append(stream->capture->graph, what, run, arguments, bytes);
    standin_count("captured", 1);
    return 0;
}

static struct graph *graph_new(uint32_t magic) {
    struct graph *graph = malloc(sizeof *graph);
    if (!graph) standin_fail("no memory for a graph");
    *graph = (struct graph){magic, NULL, NULL, 0};
    graph->last = &graph->first;
    return graph;
}
// The graph's few bytes stay, so that a second use is an error and not a crash.
static void graph_end(struct graph *graph) {
    for (struct node *at = graph->first, *next; at; at = next) {
        next = at->next;
        free(at);
    }
    *graph = (struct graph){.magic = DEAD};
}
static bool alive(const struct graph *graph, uint32_t magic) { return graph && graph->magic == magic; }

CUresult cuStreamBeginCapture_v2(struct stream *stream, enum mode mode) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!standin_stream_ok(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if ((unsigned)mode > RELAXED) return CUDA_ERROR_INVALID_VALUE;
    if (standin_is_default(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    const char *refuse = getenv("STANDIN_CAPTURE");
    if (refuse && strcmp(refuse, "off") == 0) return CUDA_ERROR_NOT_SUPPORTED;
    struct capture *capture = malloc(sizeof *capture);
    if (!capture) return CUDA_ERROR_OUT_OF_MEMORY;
    standin_lock();
    *capture = (struct capture){captures, stream, graph_new(GRAPH), mode, &thread, false};
    captures = stream->capture = capture;
    standin_unlock();
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(struct stream *stream, struct graph **out) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!standin_stream_ok(stream) || !out) return CUDA_ERROR_INVALID_VALUE;
    if (!standin_capturing(stream)) return CUDA_ERROR_ILLEGAL_STATE;
    struct capture *capture = stream->capture;
    if (capture->mode != RELAXED && capture->thread != &thread) {
        invalidate(capture, "cuStreamEndCapture by another thread");
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    standin_lock();
    struct capture **at = &captures;
    while (*at != capture) at = &(*at)->next;
    *at = capture->next;
    stream->capture = NULL;
    standin_unlock();
    bool invalid = capture->invalid;
    *out = invalid ? NULL : capture->graph;
    if (invalid) graph_end(capture->graph);
    free(capture);
    standin_count("captures", 1);
    return invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

// 0 none, 1 active, 2 invalidated.
CUresult cuStreamIsCapturing(struct stream *stream, int *status) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!standin_stream_ok(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    *status = !standin_capturing(stream) ? 0 : stream->capture->invalid ? 2 : 1;
    return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(struct graph *graph, void **nodes, size_t *count) {
    if (!alive(graph, GRAPH) || !count) return CUDA_ERROR_INVALID_VALUE;
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
    *count = graph->nodes;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(struct graph **out, struct graph *graph, unsigned long long flags) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    // 1 frees what the graph allocates (it can't), 2 uploads, 8 takes priorities; 4 is for launches from the device
    if (!out || !alive(graph, GRAPH) || flags & ~11ull) return CUDA_ERROR_INVALID_VALUE;
    *out = graph_new(GRAPH_EXEC);
    for (struct node *at = graph->first; at; at = at->next) append(*out, at->what, at->run, at->arguments, at->bytes);
    standin_count("graphs", 1);
    return CUDA_SUCCESS;
}
CUresult cuGraphUpload(struct graph *exec, struct stream *stream) {
    return alive(exec, GRAPH_EXEC) && standin_stream_ok(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static int launch(void *arguments) {
    struct graph *exec = *(struct graph **)arguments;
    if (!alive(exec, GRAPH_EXEC)) return CUDA_ERROR_INVALID_VALUE;
    for (struct node *at = exec->first; at; at = at->next) {
        int result = execute(at->run, at->arguments, at->bytes);
        // a real graph would fail later, at whatever waits for it
        if (result) standin_fail("a graph's node (%s) fails with %d", at->what, result);
    }
    standin_count("graph_nodes", exec->nodes);
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(struct graph *exec, struct stream *stream) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!alive(exec, GRAPH_EXEC) || !standin_stream_ok(stream)) return CUDA_ERROR_INVALID_VALUE;
    // a graph in a graph is a node of its own kind, which nobody here has
    CUresult captured = standin_uncaptured(stream, "cuGraphLaunch");
    if (captured) return captured;
    return standin_order(stream, "graph_launches", launch, &exec, sizeof exec);
}

CUresult cuGraphExecDestroy(struct graph *exec) {
    if (!alive(exec, GRAPH_EXEC)) return CUDA_ERROR_INVALID_VALUE;
    graph_end(exec);
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(struct graph *graph) {
    if (!alive(graph, GRAPH)) return CUDA_ERROR_INVALID_VALUE;
    graph_end(graph);
    return CUDA_SUCCESS;
}
