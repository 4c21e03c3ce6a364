// Runs a grid: blocks one after the other, the threads of a block as fibres that change places at barriers.
// A fibre runs one thread after the other until one waits; so a block without barriers needs one stack and no switch.
#include "host.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "standin.h"

struct standin_index threadIdx, blockIdx, blockDim, gridDim;

// A thread's local variables live here; a page without access below each stack turns an overflow into a crash.
enum { STACK = 128 * 1024, MOST = 1024 };

struct fibre {
    struct place *place; // where it stands while it does not run
    char *stack;         // its lowest address
    unsigned thread;     // of the block
    int line;            // of the barrier that it waits at; 0 if it is idle
};

// STANDIN_UCONTEXT tries the other way out where this one works.
#if defined(__x86_64__) && !defined(STANDIN_UCONTEXT)
#define OWN_SWITCH
// The registers that a call must keep go on the old stack, then the stacks change. Rounding modes stay: no kernel sets them.
// It ends in a jump and not in `ret`, which the processor would expect to go back to who called.
void standin_switch(struct place **from, struct place *to) __attribute__((visibility("hidden")));
__asm__(".text\n.hidden standin_switch\n.globl standin_switch\n.type standin_switch, @function\nstandin_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\npopq %rcx\njmp *%rcx\n"
        ".size standin_switch, .-standin_switch\n");

static struct place *fresh(char *stack, void (*start)(void)) {
    // Six registers, the address to go on at, and one word so that the stack is aligned as after a call.
    void **top = (void **)(stack + STACK) - 8;
    memset(top, 0, 8 * sizeof *top);
    top[6] = (void *)start;
    return (struct place *)top;
}
#else
#include <ucontext.h>
struct place {
    ucontext_t context;
};
static struct place home;
static void standin_switch(struct place **from, struct place *to) { swapcontext(&(*from)->context, &to->context); }
static struct place *fresh(char *stack, void (*start)(void)) {
    struct place *place = calloc(1, sizeof *place);
    if (!place || getcontext(&place->context)) standin_fail("no context for a fibre");
    place->context.uc_stack.ss_sp = stack;
    place->context.uc_stack.ss_size = STACK;
    makecontext(&place->context, start, 0);
    return place;
}
#endif

struct standin_moment standin_moment;

static struct fibre fibres[MOST], *idle[MOST], *waiting[MOST], *current;
static unsigned made, idles, waits;
static struct place *scheduler;

// The launch that runs.
static struct {
    const char *name;
    void (*run)(void **);
    void **params;
    unsigned threads, next, finished;
    bool reverse;
} launch;

static void set_thread(unsigned thread) {
    standin_moment.thread = thread;
    if (blockDim.y == 1 && blockDim.z == 1) {
        threadIdx = (struct standin_index){thread, 0, 0};
        return;
    }
    threadIdx.x = thread % blockDim.x;
    threadIdx.y = thread / blockDim.x % blockDim.y;
    threadIdx.z = thread / blockDim.x / blockDim.y;
}

static void fibre_main(void) {
    struct fibre *self = current;
    for (;;) {
        while (launch.next < launch.threads) {
            unsigned at = launch.next++;
            self->thread = launch.reverse ? launch.threads - 1 - at : at;
            set_thread(self->thread);
            launch.run(launch.params);
            launch.finished++;
        }
        self->line = 0;
        standin_switch(&self->place, scheduler);
    }
}

void standin_barrier(int line) {
    struct fibre *self = current;
    self->line = line;
    standin_switch(&self->place, scheduler);
}

static void resume(struct fibre *fibre) {
    current = fibre;
    standin_moment.stack = fibre->stack;
    standin_moment.stack_end = fibre->stack + STACK;
    if (fibre->line) set_thread(fibre->thread);
    standin_switch(&scheduler, fibre->place);
    if (fibre->line) waiting[waits++] = fibre;
    else idle[idles++] = fibre;
}

static struct fibre *idle_fibre(void) {
    if (idles) return idle[--idles];
    if (made == MOST) standin_fail("more fibres than a block may have threads");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, page + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) standin_fail("no stack for a fibre");
    // Stacks that end at one place of a page would share a few lines of the cache.
    size_t shift = made % 16 * 256;
    struct fibre *fibre = &fibres[made++];
    fibre->stack = memory + page - shift;
    fibre->place = fresh(fibre->stack, fibre_main);
    return fibre;
}

// True if a thread waited at a barrier.
static bool run_block(void) {
    launch.next = launch.finished = waits = 0;
    standin_moment.barriers = 0;
    while (launch.next < launch.threads) resume(idle_fibre());
    bool waited = waits > 0;
    while (waits) {
        if (launch.finished)
            standin_fail("kernel %s, block (%u, %u, %u): %u threads wait at the barrier in line %d and %u have returned",
                         launch.name, blockIdx.x, blockIdx.y, blockIdx.z, waits, waiting[0]->line, launch.finished);
        static struct fibre *round[MOST];
        unsigned threads = waits;
        memcpy(round, waiting, threads * sizeof *round);
        for (unsigned at = 1; at < threads; at++)
            if (round[at]->line != round[0]->line)
                standin_fail(
                    "kernel %s, block (%u, %u, %u): thread %u waits at the barrier in line %d, thread %u at that in line %d",
                    launch.name, blockIdx.x, blockIdx.y, blockIdx.z, round[0]->thread, round[0]->line, round[at]->thread,
                    round[at]->line);
        waits = 0;
        standin_moment.barriers++;
        for (unsigned at = 0; at < threads; at++) resume(round[at]);
    }
    return waited;
}

// The linker's names for the section of SHARED variables; weak, as there may be none.
extern char __start_standin_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_standin_shared[] __attribute__((weak, visibility("hidden")));

void standin_launch(const char *name, void (*run)(void **), void **params, struct dimensions grid, struct dimensions block) {
    // Another order between barriers, and of blocks, must not change a result: STANDIN_ORDER=reverse shows it.
    const char *order = getenv("STANDIN_ORDER");
    launch.reverse = order && strcmp(order, "reverse") == 0;
    launch.name = standin_moment.name = name;
    standin_moment.launch++;
    launch.run = run;
    launch.params = params;
    launch.threads = block.x * block.y * block.z;
    gridDim = (struct standin_index){grid.x, grid.y, grid.z};
    blockDim = (struct standin_index){block.x, block.y, block.z};
#ifndef OWN_SWITCH
    scheduler = &home;
#endif
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    bool fill = true; // a block that met no barrier has not used shared memory
    for (uint64_t at = 0; at < blocks; at++) {
        uint64_t index = launch.reverse ? blocks - 1 - at : at;
        standin_moment.block = (uint32_t)index;
        blockIdx.x = (unsigned)(index % grid.x);
        blockIdx.y = (unsigned)(index / grid.x % grid.y);
        blockIdx.z = (unsigned)(index / grid.x / grid.y);
        if (fill && __start_standin_shared)
            memset(__start_standin_shared, 0xff, (size_t)(__stop_standin_shared - __start_standin_shared));
        fill = run_block();
    }
}
