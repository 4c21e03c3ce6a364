// Streams that are late. A GPU does its work some time between the order and the wait for it. With STANDIN_LATE=last that is at the wait,
// and only what that waits for is done; with STANDIN_LATE=first all other streams go on as far as they can before. So a result changes
// where somebody should have waited, or uses memory again that is still to be read.
#include "host.h"

#include <stdalign.h>
#include <string.h>
#include <time.h>

struct late {
    struct late *next;
    struct stream *awaited; // null: `run` is to be done; else this stream's first `up_to` pieces are
    uint64_t up_to;
    const char *what;
    int (*run)(void *);
    size_t bytes;
    alignas(16) char arguments[];
};

// All there are, and what the first piece of work that failed failed with: nothing is done after it, as on a GPU.
static struct stream *streams;
static CUresult broken;

void standin_new_stream(struct stream *stream) {
    standin_lock();
    stream->next = streams;
    streams = stream;
    standin_unlock();
}

bool standin_is_late(const struct stream *stream) {
    return !standin_is_default(stream) && (stream->first || getenv("STANDIN_LATE"));
}

static void put_off(struct stream *stream, const struct late *it, const void *arguments) {
    struct late *late = aligned_alloc(16, (sizeof *late + it->bytes + 15) / 16 * 16);
    if (!late) standin_fail("no memory for work that is late");
    memcpy(late, it, sizeof *late);
    memcpy(late->arguments, arguments, it->bytes);
    *(stream->last ? &stream->last->next : &stream->first) = late;
    stream->last = late;
    stream->ordered++;
}

void standin_put_off(struct stream *stream, const char *what, int (*run)(void *), const void *arguments, size_t bytes) {
    put_off(stream, &(struct late){.what = what, .run = run, .bytes = bytes}, arguments);
}

void standin_await(struct stream *stream, const struct event *event) {
    if (standin_is_default(stream) || !event->stream) return;
    // also of a stream that is late with nothing but a collective
    if (standin_is_late(stream) || event->stream->done < event->at)
        put_off(stream, &(struct late){.what = "", .awaited = event->stream, .up_to = event->at}, "");
}

// One thread orders and waits, as in a worker; it alone is here. With `patience` it stays until everything is done.
static CUresult up_to(struct stream *stream, uint64_t pieces, bool patience) {
    while (!broken && stream->done < pieces) {
        struct late *late = stream->first;
        int result = late->awaited ? (int)up_to(late->awaited, late->up_to, patience) : late->run(late->arguments);
        if (result == WAITS || (late->awaited && result == CUDA_ERROR_NOT_READY)) {
            if (!patience) return CUDA_ERROR_NOT_READY;
            nanosleep(&(struct timespec){0, 50000}, NULL);
            continue;
        }
        stream->first = late->next;
        if (!stream->first) stream->last = NULL;
        stream->done++;
        if (result && !broken) {
            standin_say("work that was late fails with %d", result);
            broken = result;
        }
        free(late);
    }
    return broken;
}

CUresult standin_catch_up_to(struct stream *stream, uint64_t pieces) { return up_to(stream, pieces, true); }
CUresult standin_go_on_to(struct stream *stream, uint64_t pieces) { return up_to(stream, pieces, false); }

static CUresult all_of(struct stream *stream, bool patience) {
    if (!standin_is_default(stream)) return up_to(stream, stream->ordered, patience);
    CUresult result = broken;
    for (struct stream *one = streams; one && !result; one = one->next) result = up_to(one, one->ordered, patience);
    return result;
}
CUresult standin_catch_up(struct stream *stream) { return all_of(stream, true); }
CUresult standin_go_on(struct stream *stream) { return all_of(stream, false); }

void standin_others_first(const struct stream *stream) {
    const char *late = getenv("STANDIN_LATE");
    if (!late || strcmp(late, "first") != 0) return;
    for (struct stream *one = streams; one; one = one->next)
        if (one != stream) standin_catch_up_to(one, one->ordered);
}

// What the GPU still has to do while somebody waits for something else: graphs, by their launches.
void standin_count_left(void) {
    for (struct stream *one = streams; one; one = one->next)
        for (struct late *late = one->first; late; late = late->next)
            if (strcmp(late->what, "graph_launches") == 0) standin_count("graphs_left", 1);
}
