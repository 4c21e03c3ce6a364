// The driver's graphs. While a stream captures, what it is asked for becomes a node, with a copy of its arguments, and is not done;
// launching the graph does the nodes, each after those that it waits for. What CUDA forbids meanwhile fails with CUDA's error, and
// ends the capture.
#include "host.h"

#include <stdalign.h>
#include <string.h>

struct node {
    const char *what;
    struct frontier after;
    int (*run)(void *);
    size_t bytes;
    alignas(16) char arguments[];
};
// A CUgraph or a CUgraphExec: they differ in their number. Nodes stand after those that they wait for.
struct graph {
    uint32_t magic;
    struct node **nodes;
    size_t count;
};
// GLOBAL captures look at what all threads do, THREAD_LOCAL ones at their own, RELAXED ones at none.
enum mode { GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };
enum { STREAMS = 64 };
struct capture {
    struct capture *next; // of all there are
    uint64_t number;
    struct stream *stream;            // that it began on
    struct stream *joined[STREAMS];   // that came by an event
    unsigned joins;
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
    if (!standin_capturing(stream)) return standin_catch_up(stream);
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

static void append(struct graph *graph, const struct node *it, const void *arguments) {
    struct node *node = aligned_alloc(16, (sizeof *node + it->bytes + 15) / 16 * 16);
    struct node **nodes = realloc(graph->nodes, (graph->count + 1) * sizeof *nodes);
    if (!node || !nodes) standin_fail("no memory for a node of a graph");
    memcpy(node, it, sizeof *it);
    memcpy(node->arguments, arguments, it->bytes);
    graph->nodes = nodes;
    nodes[graph->count++] = node;
}

static void add(struct frontier *to, const struct frontier *from) {
    for (unsigned at = 0; at < from->count; at++) {
        unsigned found = 0;
        while (found < to->count && to->nodes[found] != from->nodes[at]) found++;
        if (found == FRONTIER) standin_fail("a node of a graph waits for more than %d others", FRONTIER);
        if (found == to->count) to->nodes[to->count++] = from->nodes[at];
    }
}

CUresult standin_record(struct event *event, struct stream *stream) {
    if (stream->capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    event->capture = stream->capture->number;
    event->frontier = stream->frontier;
    event->recorded = true;
    return CUDA_SUCCESS;
}

static struct capture *capture_of(const struct event *event) {
    struct capture *at = captures;
    while (at && at->number != event->capture) at = at->next;
    return at;
}

CUresult standin_wait(struct stream *stream, const struct event *event) {
    bool captures_already = standin_capturing(stream);
    if (!event->capture) {
        if (!captures_already) {
            standin_await(stream, event);
            return CUDA_SUCCESS;
        }
        // work from outside, which no launch could wait for
        invalidate(stream->capture, "cuStreamWaitEvent for an event of no capture");
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    standin_lock();
    struct capture *capture = capture_of(event);
    standin_unlock();
    if (!capture || standin_is_default(stream)) return CUDA_ERROR_INVALID_HANDLE;
    if (capture->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!captures_already) {
        if (capture->joins == STREAMS) standin_fail("more than %d streams join a capture", STREAMS);
        capture->joined[capture->joins++] = stream;
        stream->capture = capture;
        stream->frontier.count = 0;
    } else if (stream->capture != capture) {
        invalidate(stream->capture, "cuStreamWaitEvent for an event of another capture");
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    add(&stream->frontier, &event->frontier);
    return CUDA_SUCCESS;
}

// True if the stream that the capture began on waits, in the end, for all of its nodes.
static bool is_joined(const struct capture *capture) {
    const struct graph *graph = capture->graph;
    bool *waited = calloc(graph->count + 1, sizeof *waited), all = true;
    if (!waited) standin_fail("no memory to look at a capture");
    for (unsigned at = 0; at < capture->stream->frontier.count; at++) waited[capture->stream->frontier.nodes[at]] = true;
    for (size_t node = graph->count; node-- > 0;) {
        const struct frontier *after = &graph->nodes[node]->after;
        for (unsigned at = 0; waited[node] && at < after->count; at++) waited[after->nodes[at]] = true;
        all = all && waited[node];
    }
    free(waited);
    return all;
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

int standin_order_now(struct stream *stream, const char *what, int (*run)(void *), const void *arguments, size_t bytes) {
    // the legacy stream joins streams that capture, and there it ends
    if (standin_legacy(stream, what)) return REFUSED;
    standin_count(what, 1);
    CUresult before = standin_catch_up(stream);
    return before ? (int)before : execute(run, arguments, bytes);
}

int standin_order(struct stream *stream, const char *what, int (*run)(void *), const void *arguments, size_t bytes) {
    if (!standin_capturing(stream)) {
        if (!standin_is_late(stream)) return standin_order_now(stream, what, run, arguments, bytes);
        standin_count(what, 1);
        standin_put_off(stream, what, run, arguments, bytes);
        return 0;
    }
    if (stream->capture->invalid) return REFUSED;
    struct graph *graph = stream->capture->graph;
    append(graph, &(struct node){what, stream->frontier, run, bytes}, arguments);
    stream->frontier = (struct frontier){1, {graph->count - 1}};
    standin_count("captured", 1);
    return 0;
}

static struct graph *graph_new(uint32_t magic) {
    struct graph *graph = malloc(sizeof *graph);
    if (!graph) standin_fail("no memory for a graph");
    *graph = (struct graph){.magic = magic};
    return graph;
}
// The graph's few bytes stay, so that a second use is an error and not a crash.
static void graph_end(struct graph *graph) {
    for (size_t node = 0; node < graph->count; node++) free(graph->nodes[node]);
    free(graph->nodes);
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
    static uint64_t begun;
    standin_lock();
    *capture = (struct capture){
        .next = captures, .number = ++begun, .stream = stream, .graph = graph_new(GRAPH), .mode = mode, .thread = &thread};
    captures = stream->capture = capture;
    stream->frontier.count = 0;
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
    if (capture->stream != stream) {
        invalidate(capture, "cuStreamEndCapture of a stream that joined");
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    bool unjoined = !capture->invalid && !is_joined(capture);
    if (unjoined) invalidate(capture, "cuStreamEndCapture before all streams are waited for");
    standin_lock();
    struct capture **at = &captures;
    while (*at != capture) at = &(*at)->next;
    *at = capture->next;
    stream->capture = NULL;
    for (unsigned join = 0; join < capture->joins; join++) capture->joined[join]->capture = NULL;
    standin_unlock();
    bool invalid = capture->invalid;
    *out = invalid ? NULL : capture->graph;
    if (invalid) graph_end(capture->graph);
    free(capture);
    standin_count("captures", 1);
    return unjoined ? CUDA_ERROR_STREAM_CAPTURE_UNJOINED : invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
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
    *count = graph->count;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(struct graph **out, struct graph *graph, unsigned long long flags) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    // 1 frees what the graph allocates (it can't), 2 uploads, 8 takes priorities; 4 is for launches from the device
    if (!out || !alive(graph, GRAPH) || flags & ~11ull) return CUDA_ERROR_INVALID_VALUE;
    *out = graph_new(GRAPH_EXEC);
    for (size_t node = 0; node < graph->count; node++) append(*out, graph->nodes[node], graph->nodes[node]->arguments);
    standin_count("graphs", 1);
    return CUDA_SUCCESS;
}
CUresult cuGraphUpload(struct graph *exec, struct stream *stream) {
    return alive(exec, GRAPH_EXEC) && standin_stream_ok(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// The last node that waits for none that is not done: with STANDIN_ORDER=reverse the streams of a capture run from the last to the
// first, so that a result changes where one of them should have waited.
static size_t last_ready(const struct graph *exec, const bool *done) {
    for (size_t node = exec->count; node-- > 0;) {
        const struct frontier *after = &exec->nodes[node]->after;
        bool ready = !done[node];
        for (unsigned at = 0; ready && at < after->count; at++) ready = done[after->nodes[at]];
        if (ready) return node;
    }
    standin_fail("a graph's nodes wait for each other");
}

static int launch(void *arguments) {
    struct graph *exec = *(struct graph **)arguments;
    if (!alive(exec, GRAPH_EXEC)) return CUDA_ERROR_INVALID_VALUE;
    const char *order = getenv("STANDIN_ORDER");
    bool reverse = order && strcmp(order, "reverse") == 0, *done = calloc(exec->count + 1, sizeof *done);
    if (!done) standin_fail("no memory to launch a graph");
    for (size_t count = 0; count < exec->count; count++) {
        size_t number = reverse ? last_ready(exec, done) : count;
        struct node *node = exec->nodes[number];
        done[number] = true;
        int result = execute(node->run, node->arguments, node->bytes);
        // a real graph would fail later, at whatever waits for it
        if (result) standin_fail("a graph's node (%s) fails with %d", node->what, result);
    }
    free(done);
    standin_count("graph_nodes", exec->count);
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(struct graph *exec, struct stream *stream) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!alive(exec, GRAPH_EXEC) || !standin_stream_ok(stream)) return CUDA_ERROR_INVALID_VALUE;
    // a graph in a graph is a node of its own kind, which nobody here has
    if (standin_capturing(stream)) return standin_uncaptured(stream, "cuGraphLaunch");
    return standin_order(stream, "graph_launches", launch, &exec, sizeof exec);
}

// A graph that is still to run ends when it has run.
CUresult cuGraphExecDestroy(struct graph *exec) {
    if (!alive(exec, GRAPH_EXEC)) return CUDA_ERROR_INVALID_VALUE;
    CUresult before = standin_catch_up(NULL);
    if (before) return before;
    graph_end(exec);
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(struct graph *graph) {
    if (!alive(graph, GRAPH)) return CUDA_ERROR_INVALID_VALUE;
    graph_end(graph);
    return CUDA_SUCCESS;
}
