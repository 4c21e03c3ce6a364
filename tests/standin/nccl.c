// NCCL among processes of one machine. Ranks meet in a file in shared memory, which is named by the unique id. As with NCCL a rank whose
// peer is gone waits for it until it aborts, and two ranks on one device are refused. Calls do not block if the communicator does not.
// A collective, or a group, is one piece of its stream's work; all ranks take part in each.
#include "host.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7, COMMUNICATOR = 0x6e63636c };
// Ranks, and bytes of each one's values: pages that nobody touches cost nothing.
enum { RANKS = 16, SLOT = 256 << 20 };

enum { ADD, SEND, RECEIVE, BROADCAST, CALLS = 128 };
// What one call asks for; and, in a slot, what a rank gives to it.
struct call {
    int kind, peer; // the other side, or the root
    size_t count;   // values
    const float *from;
    float *to;
};
struct gift {
    int kind, peer;
    size_t count, start;
};

// What ranks share: each writes its own numbers, the others read them.
struct meeting {
    struct {
        _Atomic uint32_t joined; // 1: this rank is here
        _Atomic uint32_t device;
        _Atomic uint64_t posted; // groups whose values lie in its slot
        _Atomic uint64_t read;   // … and that it has read from all slots
        // of the posted one
        unsigned gifts;
        struct gift gift[CALLS];
    } rank[RANKS];
    char slots[];
};
static const size_t whole = sizeof(struct meeting) + (size_t)RANKS * SLOT;

struct communicator {
    uint32_t magic;
    int device, rank, ranks;
    bool blocking, joined;
    int error;
    struct meeting *meeting;
    char name[64];
    uint64_t number; // of the last group
    // One that the host's side is still at, as NCCL's own thread would be, and for how many questions more.
    struct group *pending;
    int polls;
};

// What is done together.
struct group {
    struct communicator *it;
    struct stream *stream;
    uint64_t number;
    bool posted;
    unsigned calls;
    struct call call[CALLS];
};
// The one that this thread has begun; a call alone is one of its own.
static _Thread_local struct group begun;
static _Thread_local int depth, refused;

struct identity {
    char bytes[128];
};
// As of NCCL 2.14.
struct config {
    size_t size;
    unsigned magic, version;
    int blocking;
};

static bool live(const struct communicator *it) { return it && it->magic == COMMUNICATOR; }
static float *slot(struct communicator *it, int rank) { return (float *)(it->meeting->slots + (size_t)rank * SLOT); }
static void nap(void) { nanosleep(&(struct timespec){0, 50000}, NULL); }

int ncclGetVersion(int *version) { return version ? (*version = 23000, SUCCESS) : INVALID_ARGUMENT; }
int ncclGetUniqueId(struct identity *out) {
    if (!out) return INVALID_ARGUMENT;
    memset(out, 0, sizeof *out);
    static _Atomic unsigned serial;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(out->bytes, 64, "/dev/shm/standin-nccl-%d-%u-%llx", (int)getpid(), serial++, (unsigned long long)now.tv_nsec);
    int file = open(out->bytes, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (file < 0) return SYSTEM_ERROR;
    int result = ftruncate(file, (off_t)whole) ? SYSTEM_ERROR : SUCCESS;
    close(file);
    return result;
}

// Takes a step towards the others. True once all of them are here.
static bool meet(struct communicator *it) {
    for (int rank = 0; !it->joined && rank < it->ranks; rank++)
        if (!it->meeting->rank[rank].joined) return false;
    if (!it->joined) {
        it->joined = true;
        unlink(it->name); // everybody has it open
        for (int rank = 0; rank < it->ranks; rank++) {
            if (rank != it->rank && it->meeting->rank[rank].device == (uint32_t)it->device) {
                standin_say("NCCL: Duplicate GPU detected: rank %d and rank %d both on device %d", rank, it->rank, it->device);
                it->error = INVALID_USAGE;
            }
        }
    }
    return true;
}

static void post(struct group *group) {
    struct communicator *it = group->it;
    struct meeting *meeting = it->meeting;
    unsigned gifts = 0;
    size_t start = 0;
    for (unsigned at = 0; at < group->calls; at++) {
        const struct call *call = &group->call[at];
        if (call->kind == RECEIVE || (call->kind == BROADCAST && call->peer != it->rank)) continue;
        if ((start + call->count) * sizeof(float) > SLOT) standin_fail("NCCL: more than %d bytes in a group", SLOT);
        memcpy(slot(it, it->rank) + start, call->from, call->count * sizeof(float));
        meeting->rank[it->rank].gift[gifts++] = (struct gift){call->kind, call->peer, call->count, start};
        start += call->count;
    }
    meeting->rank[it->rank].gifts = gifts;
    meeting->rank[it->rank].posted = group->number;
    group->posted = true;
}

// What `rank` gives to the `nth` call of this kind that has to do with `peer`.
static const float *given(struct communicator *it, int rank, const struct call *call, int peer, unsigned nth) {
    const struct gift *gift = it->meeting->rank[rank].gift, *end = gift + it->meeting->rank[rank].gifts;
    for (; gift < end; gift++) {
        if (gift->kind != (call->kind == RECEIVE ? SEND : call->kind) || gift->peer != peer || nth-- > 0) continue;
        if (gift->count != call->count)
            standin_fail("NCCL: rank %d wants %zu values of rank %d, which has %zu", it->rank, call->count, rank, gift->count);
        return slot(it, rank) + gift->start;
    }
    standin_fail("NCCL: rank %d waits for what rank %d does not give", it->rank, rank);
}

// Whom the gifts are for that `call` looks for.
static int towards(const struct communicator *it, const struct call *call) { return call->kind == RECEIVE ? it->rank : call->peer; }

static void take(struct group *group, unsigned at) {
    struct communicator *it = group->it;
    const struct call *call = &group->call[at];
    if (call->kind == SEND) return;
    unsigned nth = 0;
    for (unsigned before = 0; before < at; before++)
        nth += group->call[before].kind == call->kind && group->call[before].peer == call->peer;
    int from = call->kind == ADD ? 0 : call->peer;
    memcpy(call->to, given(it, from, call, towards(it, call), nth), call->count * sizeof(float));
    for (int rank = 1; call->kind == ADD && rank < it->ranks; rank++) {
        const float *values = given(it, rank, call, towards(it, call), nth);
        for (size_t i = 0; i < call->count; i++) call->to[i] += values[i];
    }
}

// Takes a step in a group.
static int run(void *arguments) {
    struct group *group = arguments;
    struct communicator *it = group->it;
    // aborted
    if (it->magic != COMMUNICATOR) return 0;
    struct meeting *meeting = it->meeting;
    // the slot may be filled again once everybody has read it
    for (int rank = 0; !group->posted && rank < it->ranks; rank++)
        if (meeting->rank[rank].read < group->number - 1) return WAITS;
    if (!group->posted) post(group);
    for (int rank = 0; rank < it->ranks; rank++)
        if (meeting->rank[rank].posted < group->number) return WAITS;
    unsigned received = 0, sent = 0;
    for (unsigned at = 0; at < group->calls; at++) {
        take(group, at);
        received += group->call[at].kind == RECEIVE;
    }
    for (int rank = 0; rank < it->ranks; rank++)
        for (unsigned at = 0; at < meeting->rank[rank].gifts; at++)
            sent += meeting->rank[rank].gift[at].kind == SEND && meeting->rank[rank].gift[at].peer == it->rank;
    if (sent != received) standin_fail("NCCL: rank %d is sent %u times, and receives %u times", it->rank, sent, received);
    meeting->rank[it->rank].read = group->number;
    return 0;
}

int ncclCommInitRankConfig(struct communicator **out, int ranks, struct identity id, int rank, const struct config *config) {
    static const char prefix[] = "/dev/shm/standin-nccl-";
    if (!out || ranks < 1 || rank < 0 || rank >= ranks || strncmp(id.bytes, prefix, sizeof prefix - 1) != 0) return INVALID_ARGUMENT;
    if (config && (config->magic != 0xcafebeef || config->size < sizeof *config || config->version < 21400)) return INVALID_ARGUMENT;
    if (ranks > RANKS) {
        standin_say("NCCL: %d ranks, and a stand-in has %d", ranks, RANKS);
        return INVALID_USAGE;
    }
    if (!standin_context()) return INVALID_USAGE;
    struct communicator *it = calloc(1, sizeof *it);
    int file = open(id.bytes, O_RDWR);
    void *memory = file < 0 ? MAP_FAILED : mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    if (!it || memory == MAP_FAILED) {
        free(it);
        return SYSTEM_ERROR;
    }
    *it = (struct communicator){.magic = COMMUNICATOR, .device = standin_context()->device, .rank = rank, .ranks = ranks,
                                .blocking = !config || config->blocking != 0, .meeting = memory};
    memcpy(it->name, id.bytes, sizeof it->name - 1);
    it->meeting->rank[rank].device = (uint32_t)it->device;
    it->meeting->rank[rank].joined = 1;
    standin_count("communicators", 1);
    *out = it;
    if (!it->blocking) return IN_PROGRESS;
    while (!meet(it)) nap();
    return it->error;
}
int ncclCommInitRank(struct communicator **out, int ranks, struct identity id, int rank) {
    return ncclCommInitRankConfig(out, ranks, id, rank, NULL);
}

static int end(struct communicator *it) {
    if (!live(it)) return INVALID_ARGUMENT;
    // nobody will find it any more, and who has it open keeps it
    unlink(it->name);
    // its few bytes stay: what a stream still has to do for it looks at them
    it->magic = DEAD;
    free(it->pending);
    munmap(it->meeting, whole);
    return SUCCESS;
}
int ncclCommDestroy(struct communicator *it) { return end(it); }
// One abort of all processes never returns: the one that makes the file STANDIN_HANG.
int ncclCommAbort(struct communicator *it) {
    standin_count("aborts", 1);
    const char *path = getenv("STANDIN_HANG");
    int file = path ? open(path, O_RDWR | O_CREAT | O_EXCL, 0600) : -1;
    while (file >= 0) nap();
    return end(it);
}
int ncclCommFinalize(struct communicator *it) { return live(it) ? SUCCESS : INVALID_ARGUMENT; }
int ncclCommGetAsyncError(struct communicator *it, int *error) {
    if (!live(it) || !error) return INVALID_ARGUMENT;
    *error = meet(it) ? it->error : IN_PROGRESS;
    if (!it->pending) return SUCCESS;
    if (it->polls-- > 0) {
        *error = IN_PROGRESS;
        return SUCCESS;
    }
    standin_put_off(it->pending->stream, "collectives", run, it->pending, sizeof *it->pending);
    free(it->pending);
    it->pending = NULL;
    return SUCCESS;
}
int ncclCommCount(struct communicator *it, int *count) {
    return live(it) && count ? (*count = it->ranks, SUCCESS) : INVALID_ARGUMENT;
}
int ncclCommUserRank(struct communicator *it, int *rank) {
    return live(it) && rank ? (*rank = it->rank, SUCCESS) : INVALID_ARGUMENT;
}
int ncclCommCuDevice(struct communicator *it, int *device) {
    return live(it) && device ? (*device = it->device, SUCCESS) : INVALID_ARGUMENT;
}
// All of f32 (7), sums (0) alone: the rest of NCCL is its name.
static int end_group(void) {
    struct communicator *it = begun.it;
    int result = refused;
    if (!result && it) {
        if (standin_capturing(begun.stream)) standin_fail("NCCL: a collective is captured");
        begun.number = ++it->number;
        standin_count("collectives", 1);
        if (it->blocking) {
            standin_put_off(begun.stream, "collectives", run, &begun, sizeof begun);
        } else {
            if (!(it->pending = malloc(sizeof begun))) standin_fail("no memory for a group");
            *it->pending = begun;
            it->polls = 3;
            result = IN_PROGRESS;
        }
    }
    begun = (struct group){.it = NULL};
    refused = SUCCESS;
    return result;
}
int ncclGroupStart(void) {
    depth++;
    return SUCCESS;
}
int ncclGroupEnd(void) { return depth == 0 ? INVALID_USAGE : --depth ? SUCCESS : end_group(); }

static bool lies(const void *values, size_t count) { return standin_on_device(values, count * sizeof(float)); }

static int ask(struct communicator *it, struct stream *stream, unsigned type, struct call call) {
    int result = SUCCESS;
    bool reads = call.kind != RECEIVE && (call.kind != BROADCAST || call.peer == it->rank), writes = call.kind != SEND;
    if (!live(it) || type != 7 || !standin_stream_ok(stream) || standin_is_default(stream) || call.peer < 0 || call.peer >= it->ranks ||
        (reads && !lies(call.from, call.count)) || (writes && !lies(call.to, call.count)))
        result = INVALID_ARGUMENT;
    else if (it->pending)
        // nothing may be asked for before what was is under way
        result = INVALID_ARGUMENT;
    else if (!it->joined || it->error || (begun.it && (begun.it != it || begun.stream != stream)) || begun.calls == CALLS)
        result = INVALID_USAGE;
    if (result && !refused) refused = result;
    if (!result) {
        begun.it = it;
        begun.stream = stream;
        begun.call[begun.calls++] = call;
    }
    return depth ? result : end_group();
}
int ncclAllReduce(const void *from, void *to, size_t count, unsigned type, unsigned op, struct communicator *it,
                  struct stream *stream) {
    return op ? INVALID_ARGUMENT : ask(it, stream, type, (struct call){ADD, 0, count, from, to});
}
int ncclSend(const void *from, size_t count, unsigned type, int peer, struct communicator *it, struct stream *stream) {
    return ask(it, stream, type, (struct call){SEND, peer, count, from, NULL});
}
int ncclRecv(void *to, size_t count, unsigned type, int peer, struct communicator *it, struct stream *stream) {
    return ask(it, stream, type, (struct call){RECEIVE, peer, count, NULL, to});
}
int ncclBroadcast(const void *from, void *to, size_t count, unsigned type, int root, struct communicator *it,
                  struct stream *stream) {
    return ask(it, stream, type, (struct call){BROADCAST, root, count, from, to});
}

const char *ncclGetErrorString(int status) {
    return status == SUCCESS ? "no error" : status == INVALID_ARGUMENT ? "invalid argument" : status == SYSTEM_ERROR ? "system error"
                                                                                                                      : "invalid usage";
}
const char *ncclGetLastError(struct communicator *it) {
    return live(it) && it->error ? "Duplicate GPU detected" : "";
}
