// NCCL among processes of one machine. Ranks meet in a file in shared memory, which is named by the unique id. As with NCCL a rank whose
// peer is gone waits for it until it aborts, and two ranks on one device are refused. Calls do not block if the communicator does not.
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

// What ranks share: each writes its own numbers, the others read them.
struct meeting {
    struct {
        _Atomic uint32_t joined; // 1: this rank is here
        _Atomic uint32_t device;
        _Atomic uint64_t posted; // collectives whose values lie in its slot
        _Atomic uint64_t read;   // … and that it has read from all slots
        _Atomic uint64_t count;  // values of the posted one
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
    // The collective that is under way, if any: the number of the last one, and whether its values are posted.
    uint64_t number;
    bool busy, posted;
    const float *from;
    float *to;
    size_t count;
    struct stream *stream;
    struct communicator *next;
};
// All of this process. A rank waits under its own thread's calls alone, so the lock is held for looks, never for a wait.
static struct communicator *all;

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

// Takes a step in the collective that is under way. True once it is done.
static bool sum(struct communicator *it) {
    if (!it->busy) return true;
    struct meeting *meeting = it->meeting;
    if (!it->posted) {
        // the slot may be filled again once everybody has read it
        for (int rank = 0; rank < it->ranks; rank++)
            if (meeting->rank[rank].read < it->number - 1) return false;
        memcpy(slot(it, it->rank), it->from, it->count * sizeof(float));
        meeting->rank[it->rank].count = it->count;
        meeting->rank[it->rank].posted = it->number;
        it->posted = true;
    }
    for (int rank = 0; rank < it->ranks; rank++)
        if (meeting->rank[rank].posted < it->number) return false;
    for (int rank = 0; rank < it->ranks; rank++)
        if (meeting->rank[rank].count != it->count)
            standin_fail("NCCL: rank %d sums %zu values, rank %d %zu", it->rank, it->count, rank,
                         (size_t)meeting->rank[rank].count);
    memcpy(it->to, slot(it, 0), it->count * sizeof(float));
    for (int rank = 1; rank < it->ranks; rank++) {
        const float *values = slot(it, rank);
        for (size_t i = 0; i < it->count; i++) it->to[i] += values[i];
    }
    meeting->rank[it->rank].read = it->number;
    it->busy = false;
    return true;
}

static bool late(const struct stream *stream) {
    bool waits = false;
    standin_lock();
    for (struct communicator *it = all; it; it = it->next)
        if (it->stream == stream && !sum(it)) waits = true;
    standin_unlock();
    return waits;
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
    standin_lock();
    it->next = all;
    all = it;
    standin_unlock();
    standin_late(late);
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
    standin_lock();
    struct communicator **at = &all;
    while (*at != it) at = &(*at)->next;
    *at = it->next;
    standin_unlock();
    // nobody will find it any more, and who has it open keeps it
    unlink(it->name);
    munmap(it->meeting, whole);
    it->magic = DEAD;
    free(it);
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
int ncclGroupStart(void) { return SUCCESS; }
int ncclGroupEnd(void) { return SUCCESS; }

// The only collective, of f32 (7) by sum (0): the rest of NCCL is its name.
int ncclAllReduce(const void *from, void *to, size_t count, unsigned type, unsigned op, struct communicator *it,
                  struct stream *stream) {
    if (!live(it) || type != 7 || op != 0 || !standin_stream_ok(stream)) return INVALID_ARGUMENT;
    if (!it->joined || it->error || it->busy) return INVALID_USAGE;
    if (count * sizeof(float) > SLOT) return INVALID_ARGUMENT;
    if (!standin_on_device(from, count * sizeof(float)) || !standin_on_device(to, count * sizeof(float))) return INVALID_ARGUMENT;
    standin_count("collectives", 1);
    it->number++;
    it->busy = true;
    it->posted = false;
    it->from = from;
    it->to = to;
    it->count = count;
    it->stream = stream;
    return SUCCESS;
}

const char *ncclGetErrorString(int status) {
    return status == SUCCESS ? "no error" : status == INVALID_ARGUMENT ? "invalid argument" : status == SYSTEM_ERROR ? "system error"
                                                                                                                      : "invalid usage";
}
const char *ncclGetLastError(struct communicator *it) {
    return live(it) && it->error ? "Duplicate GPU detected" : "";
}
