// Streams that are late. A GPU does its work some time between the order and the wait for it. With STANDIN_LATE=last that is at the wait,
// and only what that waits for is done; with STANDIN_LATE=first all other streams go on as far as they can before. So a result changes
// where somebody should have waited, or uses memory again that is still to be read.
#include "host.h"

#include <stdalign.h>
#include <string.h>

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
    return getenv("STANDIN_LATE") && !standin_is_default(stream);
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
    if (standin_is_late(stream) && event->stream) put_off(stream, &(struct late){.what = "", .awaited = event->stream, .up_to = event->at}, "");
}

// One thread orders and waits, as in a worker; it alone is here.
CUresult standin_catch_up_to(struct stream *stream, uint64_t up_to) {
    while (!broken && stream->done < up_to) {
        struct late *late = stream->first;
        stream->first = late->next;
        if (!stream->first) stream->last = NULL;
        stream->done++;
        int result = late->awaited ? (int)standin_catch_up_to(late->awaited, late->up_to) : late->run(late->arguments);
        if (result && !broken) {
            standin_say("work that was late fails with %d", result);
            broken = result;
        }
        free(late);
    }
    return broken;
}

void standin_others_first(const struct stream *stream) {
    const char *late = getenv("STANDIN_LATE");
    if (!late || strcmp(late, "first") != 0) return;
    for (struct stream *one = streams; one; one = one->next)
        if (one != stream) standin_catch_up_to(one, one->ordered);
}

CUresult standin_catch_up(struct stream *stream) {
    if (!standin_is_default(stream)) return standin_catch_up_to(stream, stream->ordered);
    for (struct stream *one = streams; one; one = one->next) standin_catch_up_to(one, one->ordered);
    return broken;
}

// What the GPU still has to do while somebody waits for something else: graphs, by their launches.
void standin_count_left(void) {
    for (struct stream *one = streams; one; one = one->next)
        for (struct late *late = one->first; late; late = late->next)
            if (strcmp(late->what, "graph_launches") == 0) standin_count("graphs_left", 1);
}
