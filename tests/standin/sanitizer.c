// What compute-sanitizer looks for, without a GPU. `build.sh` with STANDIN_SANITIZE=1 has gcc call these functions before each load and
// store of a kernel, as -fsanitize=thread does for threads; here they know fibres, blocks and barriers instead. They abort where
// - memory is not the kernel's: outside all allocations of device memory, or on another thread's stack;
// - two threads of a launch use the same byte, one of them writes, and no barrier that both pass lies between: whatever the order was this
//   time, a GPU has another. Blocks have no barrier in common;
// - shared memory is read before the block has written it.
#include "host.h"

#include <string.h>

#include "standin.h"

enum { READ, WRITE };
// Who used a byte last. Of readers: the last one, and whether there were others since the barrier, or in other blocks.
enum { WRITTEN = 1, WAS_READ = 2, MORE_THREADS = 4, MORE_BLOCKS = 8 };
struct who {
    uint32_t block, barriers, thread;
};
struct cell {
    uint32_t launch, flags;
    struct who writer, reader;
};

// Cells of PAGE bytes each, found by address. They are never given back: memory is used again.
enum { PAGE = 4096 };
struct page {
    uintptr_t number;
    struct cell *cells;
};
static struct page *pages;
static size_t room, used;

static struct cell *page_of(uintptr_t number) {
    static struct page last;
    if (last.cells && last.number == number) return last.cells;
    if (2 * used >= room) {
        struct page *old = pages;
        size_t were = room;
        room = room ? 2 * room : 1 << 16;
        pages = calloc(room, sizeof *pages);
        if (!pages) standin_fail("no memory to watch memory");
        for (size_t at = 0; at < were; at++) {
            if (!old[at].cells) continue;
            size_t to = old[at].number * 0x9E3779B97F4A7C15u % room;
            while (pages[to].cells) to = (to + 1) % room;
            pages[to] = old[at];
        }
        free(old);
    }
    size_t at = number * 0x9E3779B97F4A7C15u % room;
    while (pages[at].cells && pages[at].number != number) at = (at + 1) % room;
    if (!pages[at].cells) {
        pages[at] = (struct page){number, calloc(PAGE, sizeof(struct cell))};
        if (!pages[at].cells) standin_fail("no memory to watch memory");
        used++;
    }
    last = pages[at];
    return last.cells;
}

// Shared memory, and this library: kernels' constants, and threadIdx.
extern char __start_standin_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_standin_shared[] __attribute__((weak, visibility("hidden")));
extern char __ehdr_start[] __attribute__((visibility("hidden"))), _end[] __attribute__((visibility("hidden")));

static const char *what_does(int way) { return way == WRITE ? "writes" : "reads"; }

// `place` is where the kernel does it, for addr2line.
_Noreturn static void outside(const char *at, size_t bytes, int way, const void *place) {
    standin_fail("kernel %s, block %u, thread %u %s %zu bytes at %p, which is not in device memory (addr2line -e libcuda.so.1 %#tx)",
                 standin_moment.name, standin_moment.block, standin_moment.thread, what_does(way), bytes, (const void *)at,
                 (const char *)place - __ehdr_start);
}
_Noreturn static void race(const char *at, int way, const struct who *other, int other_way, const void *place) {
    struct found found;
    if (!standin_find(at, 1, &found)) found.base = NULL;
    // Of several readers the last is known, and that may be the one that writes.
    bool itself = other->block == standin_moment.block && other->thread == standin_moment.thread;
    standin_fail("kernel %s, block %u, thread %u %s byte %td of %s, which %s %u of block %u %s, and no barrier lies between "
                 "(addr2line -e libcuda.so.1 %#tx)",
                 standin_moment.name, standin_moment.block, standin_moment.thread, what_does(way),
                 found.base ? at - (const char *)found.base : at - __start_standin_shared,
                 found.base ? "an allocation" : "shared memory", itself ? "a thread before" : "thread", other->thread, other->block,
                 other_way == WRITE ? "wrote" : "read", (const char *)place - __ehdr_start);
}

// True if `other` may come before or after the thread that runs.
static bool beside(const struct who *other) {
    if (other->block != standin_moment.block) return true;
    return other->thread != standin_moment.thread && other->barriers == standin_moment.barriers;
}

static void look(const char *at, size_t bytes, int way, bool shared, const void *place) {
    const struct who me = {standin_moment.block, standin_moment.barriers, standin_moment.thread};
    for (const char *end = at + bytes; at < end; at++) {
        struct cell *cell = page_of((uintptr_t)at / PAGE) + (uintptr_t)at % PAGE;
        // Another block's shared memory is another memory.
        if (cell->launch != standin_moment.launch || (shared && cell->flags && cell->writer.block != me.block))
            *cell = (struct cell){.launch = standin_moment.launch};
        if (shared && way == READ && !(cell->flags & WRITTEN))
            standin_fail("kernel %s, block %u, thread %u reads byte %td of shared memory, which nobody has written "
                         "(addr2line -e libcuda.so.1 %#tx)",
                         standin_moment.name, me.block, me.thread, at - __start_standin_shared, (const char *)place - __ehdr_start);
        if ((cell->flags & WRITTEN) && beside(&cell->writer)) race(at, way, &cell->writer, WRITE, place);
        if (way == READ) {
            uint32_t more = 0;
            if (cell->flags & WAS_READ) {
                more = cell->flags & MORE_BLOCKS;
                if (cell->reader.block != me.block) more |= MORE_BLOCKS;
                else if (cell->reader.barriers == me.barriers)
                    more |= (cell->flags & MORE_THREADS) | (cell->reader.thread != me.thread ? MORE_THREADS : 0);
            }
            cell->flags = (cell->flags & WRITTEN) | WAS_READ | more;
            cell->reader = me;
            continue;
        }
        bool others = (cell->flags & MORE_BLOCKS) || beside(&cell->reader) ||
                      ((cell->flags & MORE_THREADS) && cell->reader.barriers == me.barriers);
        if ((cell->flags & WAS_READ) && others) race(at, WRITE, &cell->reader, READ, place);
        // The readers so far were this thread, or stood before a barrier.
        cell->flags = WRITTEN;
        cell->writer = me;
    }
}

static void watch(const void *start, size_t bytes, int way, const void *place) {
    const char *at = start;
    if (at >= standin_moment.stack && at + bytes <= standin_moment.stack_end) return;
    if (at >= __start_standin_shared && at + bytes <= __stop_standin_shared) {
        look(at, bytes, way, true, place);
        return;
    }
    // constants, and threadIdx; a write there went past shared memory
    if (way == READ && at >= __ehdr_start && at + bytes <= _end) return;
    // The launch has the lock, so that no allocation comes or goes meanwhile.
    static struct {
        uint32_t launch;
        const char *from, *to;
    } known[8];
    static unsigned next;
    for (unsigned k = 0; k < 8; k++)
        if (known[k].launch == standin_moment.launch && at >= known[k].from && at + bytes <= known[k].to) {
            look(at, bytes, way, false, place);
            return;
        }
    struct found found;
    if (!standin_find(at, bytes, &found) || found.device == HOST) outside(at, bytes, way, place);
    known[next].launch = standin_moment.launch;
    known[next].from = found.base;
    known[next].to = (const char *)found.base + found.bytes;
    next = (next + 1) % 8;
    look(at, bytes, way, false, place);
}

// What gcc calls.
#define HOOK(name, bytes, way)                                                                                                   \
    void name(void *at);                                                                                                         \
    void name(void *at) { watch(at, bytes, way, __builtin_return_address(0)); }
#define HOOKS(bytes)                                                                                                             \
    HOOK(__tsan_read##bytes, bytes, READ)                                                                                        \
    HOOK(__tsan_write##bytes, bytes, WRITE)                                                                                      \
    HOOK(__tsan_unaligned_read##bytes, bytes, READ)                                                                              \
    HOOK(__tsan_unaligned_write##bytes, bytes, WRITE)
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *at, long bytes);
void __tsan_read_range(void *at, long bytes) { watch(at, (size_t)bytes, READ, __builtin_return_address(0)); }
void __tsan_write_range(void *at, long bytes);
void __tsan_write_range(void *at, long bytes) { watch(at, (size_t)bytes, WRITE, __builtin_return_address(0)); }
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_func_entry(void *place);
void __tsan_func_entry(void *place) { (void)place; }
void __tsan_func_exit(void *place);
void __tsan_func_exit(void *place) { (void)place; }
