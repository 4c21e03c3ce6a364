// What the C files of the stand-in share: handles, status numbers, memory, counters. Kernels see standin.h instead.
#ifndef STANDIN_HOST_H
#define STANDIN_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// cuda.h's numbers, those that are returned here.
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_FILE_NOT_FOUND = 301,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_CAPTURED_EVENT = 907,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
};

typedef int CUresult;
typedef uintptr_t CUdeviceptr;

// Each handle starts with its own number, so that a wrong or destroyed one is noticed.
struct context {
    uint32_t magic;
    int device;
};
// The nodes of a graph that what comes next waits for, by number.
enum { FRONTIER = 64 };
struct frontier {
    unsigned count;
    size_t nodes[FRONTIER];
};
struct stream {
    uint32_t magic;
    struct context *context;
    unsigned flags;
    int priority;
    struct capture *capture; // null: what it is asked for is done
    struct frontier frontier;
    struct stream *next;       // of all there are
    struct late *first, *last; // what it was asked for and is still to do
    uint64_t ordered, done;    // how many pieces that were late, so far
};
struct event {
    uint32_t magic;
    unsigned flags;
    bool recorded;
    double milliseconds;
    uint64_t capture; // the number of the one that it was recorded in; 0: none
    struct frontier frontier;
    struct stream *stream; // that it was recorded on; null: a default one
    uint64_t at;           // what that stream had been asked for by then
};
struct module {
    uint32_t magic;
    char *text;
};
struct function {
    uint32_t magic;
    struct module *module;
    void (*run)(void **);  // one thread of the kernel
    const size_t *bytes;   // of its struct; null for candle's kernels
    const size_t *sizes;   // of each of their parameters, up to a 0; null where nobody needs them
    struct function *next; // of all there are: a handle lives as long as the program
    char name[];
};
enum { CONTEXT = 0x436f6e74, STREAM = 0x53747265, EVENT = 0x4576656e, MODULE = 0x4d6f6475, FUNCTION = 0x46756e63, DEAD = 0xdead };
enum { GRAPH = 0x47726170, GRAPH_EXEC = 0x47457865 };

// Says which function nobody wrote, and aborts.
_Noreturn void standin_missing(const char *name);
// Prints "stand-in: ..." and aborts: a mistake that a GPU would let pass or answer at random.
_Noreturn void standin_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Prints why a call returns an error, if STANDIN_TRACE is set: statuses alone say little.
void standin_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The one lock: memory's list, counters, and a launch from its first thread to its last.
void standin_lock(void);
void standin_unlock(void);

// counters.c. The caller holds no lock.
void standin_count(const char *name, uint64_t add);
// A counter so far; exported, so that a test may ask for it by dlsym.
uint64_t standin_counted(const char *name);
int standin_devices(void);
// STANDIN_WORK=off: what a lone worker's step asks for is not computed, copied or filled. What is left of its time is the host's.
bool standin_rests(void);

// memory.c: HOST stands for page-locked host memory, 0.. for a device.
enum { HOST = -1 };
CUresult standin_allocate(void **out, size_t bytes, int device, unsigned flags);
// Aborts if `start` is not the start of a live allocation of that kind.
void standin_free(void *start, bool host);
// The allocation that holds all of [start, start + bytes): false if there is none.
struct found {
    void *base;
    size_t bytes;
    int device;
    unsigned flags;
};
bool standin_find(const void *start, size_t bytes, struct found *found);
// True if [start, start + bytes) lies in one live device allocation.
bool standin_on_device(const void *start, size_t bytes);
// Aborts if a byte beside an allocation was written; `after_what` is the call or kernel that the message names.
void standin_check_guards(const char *after_what);
size_t standin_free_memory(int device);
size_t standin_total_memory(void);

// driver_device.c: the calling thread's, null if none.
struct context *standin_context(void);
// driver_stream.c: true for the default streams (null, 1, 2) and a live handle.
bool standin_stream_ok(const struct stream *stream);
bool standin_is_default(const struct stream *stream);

// driver_graph.c. All work of a stream goes through here: `run` with `arguments` is done now and its result returned, or, while
// the stream captures, becomes a node with a copy of them, and 0 is returned. REFUSED: the capture is invalid. `what` counts it.
// Where streams are late it is put off; not so by `standin_order_now`, whose arguments may not last.
enum { REFUSED = -1 };
int standin_order(struct stream *stream, const char *what, int (*run)(void *arguments), const void *arguments, size_t bytes);
int standin_order_now(struct stream *stream, const char *what, int (*run)(void *arguments), const void *arguments, size_t bytes);
// For a call that no capture of this thread may see (an allocation, a wait): ends it and returns the error.
CUresult standin_unsafe(const char *call);
// For a call on a stream that it must not be captured on, and that is done now: what the stream was asked for before is done first.
CUresult standin_uncaptured(struct stream *stream, const char *call);
// For a wait for everything that the context does.
CUresult standin_whole_context(const char *call);
// For work on `stream`, if it is the legacy one: it waits for streams that capture.
CUresult standin_legacy(const struct stream *stream, const char *call);
bool standin_capturing(const struct stream *stream);
// For a stream that captures: `event` stands for all that it was asked for so far.
CUresult standin_record(struct event *event, struct stream *stream);
// What `stream` is asked for next waits for `event`, where one of them has to do with a capture; it joins the event's.
CUresult standin_wait(struct stream *stream, const struct event *event);

// driver_late.c: whether what `stream` is asked for is put off, and putting it off. A piece that waits for another process returns WAITS,
// and is tried again; what comes after it on its stream is put off, too.
enum { WAITS = -2 };
void standin_new_stream(struct stream *stream);
bool standin_is_late(const struct stream *stream);
void standin_put_off(struct stream *stream, const char *what, int (*run)(void *arguments), const void *arguments, size_t bytes);
// What `stream` is asked for next comes after what `event` stands for.
void standin_await(struct stream *stream, const struct event *event);
// Does what was put off, all of it or the first `up_to` pieces; a default stream waits for all others.
CUresult standin_catch_up(struct stream *stream);
CUresult standin_catch_up_to(struct stream *stream, uint64_t up_to);
// Does as much of it as waits for nobody; CUDA_ERROR_NOT_READY if more is left.
CUresult standin_go_on(struct stream *stream);
CUresult standin_go_on_to(struct stream *stream, uint64_t up_to);
// Before a wait for `stream`, where that is how they are late.
void standin_others_first(const struct stream *stream);
void standin_count_left(void);

// fibres.c: runs a grid of blocks. The caller holds the lock.
struct dimensions {
    unsigned x, y, z;
};
// Where the thread that runs is: what sanitizer.c knows of order.
extern struct standin_moment {
    uint32_t launch, block, barriers, thread;
    const char *name;
    const char *stack, *stack_end;
} standin_moment;
void standin_launch(const char *name, void (*run)(void **), void **params, struct dimensions grid, struct dimensions block);

#endif
