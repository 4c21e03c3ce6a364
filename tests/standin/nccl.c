// NCCL for one rank, where every sum is a copy.
#include "host.h"

#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, COMMUNICATOR = 0x6e63636c };
struct communicator {
    uint32_t magic;
    int device;
};
struct identity {
    char bytes[128];
};

static bool live(const struct communicator *it) { return it && it->magic == COMMUNICATOR; }

int ncclGetVersion(int *version) { return version ? (*version = 23000, SUCCESS) : INVALID_ARGUMENT; }
int ncclGetUniqueId(struct identity *out) {
    if (!out) return INVALID_ARGUMENT;
    memset(out, 0, sizeof *out);
    strcpy(out->bytes, "stand-in");
    return SUCCESS;
}
int ncclCommInitRank(struct communicator **out, int ranks, struct identity id, int rank) {
    if (!out || ranks < 1 || rank < 0 || rank >= ranks || strcmp(id.bytes, "stand-in") != 0) return INVALID_ARGUMENT;
    if (ranks != 1) {
        standin_say("NCCL: %d ranks, and a stand-in has one", ranks);
        return INVALID_USAGE;
    }
    if (!standin_context()) return INVALID_USAGE;
    *out = malloc(sizeof **out);
    if (!*out) return INVALID_USAGE;
    **out = (struct communicator){COMMUNICATOR, standin_context()->device};
    return SUCCESS;
}
static int end(struct communicator *it) {
    if (!live(it)) return INVALID_ARGUMENT;
    it->magic = DEAD;
    free(it);
    return SUCCESS;
}
int ncclCommDestroy(struct communicator *it) { return end(it); }
int ncclCommAbort(struct communicator *it) { return end(it); }
int ncclCommFinalize(struct communicator *it) { return live(it) ? SUCCESS : INVALID_ARGUMENT; }
int ncclCommGetAsyncError(struct communicator *it, int *error) {
    return live(it) && error ? (*error = 0, SUCCESS) : INVALID_ARGUMENT;
}
int ncclCommCount(struct communicator *it, int *count) { return live(it) && count ? (*count = 1, SUCCESS) : INVALID_ARGUMENT; }
int ncclCommUserRank(struct communicator *it, int *rank) { return live(it) && rank ? (*rank = 0, SUCCESS) : INVALID_ARGUMENT; }
int ncclCommCuDevice(struct communicator *it, int *device) {
    return live(it) && device ? (*device = it->device, SUCCESS) : INVALID_ARGUMENT;
}
int ncclGroupStart(void) { return SUCCESS; }
int ncclGroupEnd(void) { return SUCCESS; }

static int copy(const void *from, void *to, size_t count, unsigned type, struct communicator *it, struct stream *stream) {
    static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    if (!live(it) || type >= sizeof bytes / sizeof *bytes || !standin_stream_ok(stream)) return INVALID_ARGUMENT;
    if (count == 0) return SUCCESS;
    if (!standin_on_device(from, count * bytes[type]) || !standin_on_device(to, count * bytes[type])) return INVALID_ARGUMENT;
    memmove(to, from, count * bytes[type]);
    standin_count("collectives", 1);
    return SUCCESS;
}
int ncclAllReduce(const void *from, void *to, size_t count, unsigned type, unsigned op, struct communicator *it,
                  struct stream *stream) {
    (void)op;
    return copy(from, to, count, type, it, stream);
}
int ncclReduce(const void *from, void *to, size_t count, unsigned type, unsigned op, int root, struct communicator *it,
               struct stream *stream) {
    (void)op;
    return root ? INVALID_ARGUMENT : copy(from, to, count, type, it, stream);
}
int ncclBroadcast(const void *from, void *to, size_t count, unsigned type, int root, struct communicator *it,
                  struct stream *stream) {
    return root ? INVALID_ARGUMENT : copy(from, to, count, type, it, stream);
}
int ncclBcast(void *buffer, size_t count, unsigned type, int root, struct communicator *it, struct stream *stream) {
    return root ? INVALID_ARGUMENT : copy(buffer, buffer, count, type, it, stream);
}
int ncclAllGather(const void *from, void *to, size_t count, unsigned type, struct communicator *it, struct stream *stream) {
    return copy(from, to, count, type, it, stream);
}
int ncclReduceScatter(const void *from, void *to, size_t count, unsigned type, unsigned op, struct communicator *it,
                      struct stream *stream) {
    (void)op;
    return copy(from, to, count, type, it, stream);
}

const char *ncclGetErrorString(int status) {
    return status == SUCCESS ? "no error" : status == INVALID_ARGUMENT ? "invalid argument" : "invalid usage";
}
const char *ncclGetLastError(struct communicator *it) {
    (void)it;
    return "stand-in";
}
