// The driver's streams and events. Work is done when it is ordered, or late; so waiting does what is late, and checks the guards.
// Times are real.
#include "host.h"

#include <time.h>

bool standin_is_default(const struct stream *stream) { return (uintptr_t)stream <= 2; }
bool standin_stream_ok(const struct stream *stream) { return standin_is_default(stream) || stream->magic == STREAM; }

static CUresult usable(const struct stream *stream) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    return standin_stream_ok(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamCreateWithPriority(struct stream **out, unsigned flags, int priority) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!out || flags > 1) return CUDA_ERROR_INVALID_VALUE;
    struct stream *stream = malloc(sizeof *stream);
    if (!stream) return CUDA_ERROR_OUT_OF_MEMORY;
    *stream = (struct stream){.magic = STREAM, .context = standin_context(), .flags = flags, .priority = priority};
    standin_new_stream(stream);
    standin_count("streams", 1);
    *out = stream;
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(struct stream **out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

// The few bytes of a destroyed stream or event stay, so that a second use is an error and not a crash.
CUresult cuStreamDestroy_v2(struct stream *stream) {
    if (standin_is_default(stream) || stream->magic != STREAM) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) standin_fail("a stream is destroyed that captures");
    standin_catch_up(stream);
    stream->magic = DEAD;
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(struct stream *stream) {
    CUresult result = usable(stream);
    if (!result) standin_others_first(stream);
    if (!result) result = standin_uncaptured(stream, "cuStreamSynchronize");
    if (!result) result = standin_legacy(stream, "cuStreamSynchronize");
    if (result) return result;
    standin_count("synchronisations", 1);
    standin_check_guards("cuStreamSynchronize");
    return CUDA_SUCCESS;
}
CUresult cuStreamQuery(struct stream *stream) {
    CUresult result = usable(stream);
    if (!result && standin_capturing(stream)) result = standin_uncaptured(stream, "cuStreamQuery");
    if (!result) result = standin_legacy(stream, "cuStreamQuery");
    return result ? result : standin_go_on(stream);
}

CUresult cuStreamGetCtx(struct stream *stream, struct context **context) {
    CUresult result = usable(stream);
    if (result) return result;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = standin_is_default(stream) ? standin_context() : stream->context;
    return CUDA_SUCCESS;
}
CUresult cuStreamGetFlags(struct stream *stream, unsigned *flags) {
    if (usable(stream) || !flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = standin_is_default(stream) ? 0 : stream->flags;
    return CUDA_SUCCESS;
}
CUresult cuStreamGetPriority(struct stream *stream, int *priority) {
    if (usable(stream) || !priority) return CUDA_ERROR_INVALID_VALUE;
    *priority = standin_is_default(stream) ? 0 : stream->priority;
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(struct stream *stream, void (*call)(void *), void *data) {
    CUresult result = usable(stream);
    if (result) return result;
    if (!call) return CUDA_ERROR_INVALID_VALUE;
    // CUDA would make a node of it; nobody here asks for that
    result = standin_uncaptured(stream, "cuLaunchHostFunc");
    if (result) return result;
    call(data);
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(struct event **out, unsigned flags) {
    if (!standin_context()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!out || flags > 7) return CUDA_ERROR_INVALID_VALUE;
    struct event *event = malloc(sizeof *event);
    if (!event) return CUDA_ERROR_OUT_OF_MEMORY;
    *event = (struct event){.magic = EVENT, .flags = flags};
    standin_count("events", 1);
    *out = event;
    return CUDA_SUCCESS;
}

static bool alive(const struct event *event) { return event && event->magic == EVENT; }

// Events come and go with each tensor that candle follows, so these are given back; their number goes first.
CUresult cuEventDestroy_v2(struct event *event) {
    if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    event->magic = DEAD;
    free(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(struct event *event, struct stream *stream) {
    CUresult result = usable(stream);
    if (result) return result;
    if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (standin_capturing(stream)) return standin_record(event, stream);
    event->capture = 0;
    event->stream = standin_is_default(stream) ? NULL : stream;
    event->at = event->stream ? stream->ordered : 0;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->milliseconds = (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
    event->recorded = true;
    return CUDA_SUCCESS;
}
CUresult cuEventRecordWithFlags(struct event *event, struct stream *stream, unsigned flags) {
    (void)flags;
    return cuEventRecord(event, stream);
}

CUresult cuEventSynchronize(struct event *event) {
    if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
    if (event->stream) standin_others_first(event->stream);
    CUresult result = event->stream ? standin_catch_up_to(event->stream, event->at) : CUDA_SUCCESS;
    if (result) return result;
    standin_count("synchronisations", 1);
    standin_count_left();
    standin_check_guards("cuEventSynchronize");
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(struct event *event) {
    if (!alive(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) return CUDA_ERROR_CAPTURED_EVENT;
    return event->stream ? standin_go_on_to(event->stream, event->at) : CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(struct stream *stream, struct event *event, unsigned flags) {
    (void)flags;
    CUresult result = usable(stream);
    if (result) return result;
    return alive(event) ? standin_wait(stream, event) : CUDA_ERROR_INVALID_HANDLE;
}

// CU_EVENT_DISABLE_TIMING is 2: such an event has no time to give.
static CUresult elapsed(float *out, const struct event *start, const struct event *end) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (!alive(start) || !alive(end) || !start->recorded || !end->recorded || (start->flags & 2) || (end->flags & 2))
        return CUDA_ERROR_INVALID_HANDLE;
    if (start->capture || end->capture) return CUDA_ERROR_CAPTURED_EVENT;
    *out = (float)(end->milliseconds - start->milliseconds);
    return CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float *out, struct event *start, struct event *end) { return elapsed(out, start, end); }
CUresult cuEventElapsedTime_v2(float *out, struct event *start, struct event *end) { return elapsed(out, start, end); }
