// Device and page-locked memory, which is all host memory: a sorted list of live allocations, each between guards.
#include "host.h"

#include <stdio.h>
#include <string.h>

// cuMemAlloc's promise on alignment is 256 bytes; a guard of the same size keeps it.
enum { GUARD = 256 };

struct allocation {
    char *base;
    size_t bytes;
    int device;
    unsigned flags;
    uint64_t serial;
};
static struct allocation *live;
static size_t count, room;
static uint64_t serial;

// Read as f32 a guard is a NaN, so that reading over an edge shows in results, and not the NaN of fresh memory.
static unsigned char edge[GUARD];
__attribute__((constructor)) static void make_edge(void) {
    static const unsigned char word[4] = {0xef, 0xbe, 0xc0, 0x7f};
    for (int at = 0; at < GUARD; at++) edge[at] = word[at & 3];
}

// The last allocation that starts at or before `start`, or -1.
static ptrdiff_t search(const char *start) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (live[middle].base <= start) low = middle + 1;
        else high = middle;
    }
    return (ptrdiff_t)low - 1;
}

size_t standin_total_memory(void) {
    // 8 GiB unless STANDIN_MEMORY (bytes) says otherwise, for trying out what happens when a GPU is full.
    const char *text = getenv("STANDIN_MEMORY");
    return text ? strtoull(text, NULL, 10) : (size_t)8 << 30;
}

size_t standin_free_memory(int device) {
    size_t used = 0, total = standin_total_memory();
    standin_lock();
    for (size_t at = 0; at < count; at++)
        if (live[at].device == device) used += live[at].bytes;
    standin_unlock();
    return used < total ? total - used : 0;
}

CUresult standin_allocate(void **out, size_t bytes, int device, unsigned flags) {
    if (!out || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (device != HOST && bytes > standin_free_memory(device)) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t whole = (GUARD + bytes + GUARD + GUARD - 1) / GUARD * GUARD;
    char *memory = whole > bytes ? aligned_alloc(GUARD, whole) : NULL;
    if (!memory) return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(memory, edge, GUARD);
    if (!standin_rests()) memset(memory + GUARD, 0xff, bytes);
    else if (device == HOST) memset(memory + GUARD, 0, bytes); // what never comes home must not be NaN
    memcpy(memory + GUARD + bytes, edge, GUARD);

    standin_lock();
    if (count == room) {
        room = room ? 2 * room : 256;
        live = realloc(live, room * sizeof *live);
        if (!live) standin_fail("no memory for the list of allocations");
    }
    size_t at = (size_t)(search(memory + GUARD) + 1);
    memmove(live + at + 1, live + at, (count - at) * sizeof *live);
    live[at] = (struct allocation){memory + GUARD, bytes, device, flags, serial++};
    count++;
    standin_unlock();

    standin_count(device == HOST ? "host_allocations" : "allocations", 1);
    standin_count(device == HOST ? "host_allocated_bytes" : "allocated_bytes", bytes);
    *out = memory + GUARD;
    return CUDA_SUCCESS;
}

static void check(const struct allocation *one, const char *after_what) {
    const unsigned char *before = (unsigned char *)one->base - GUARD, *after = (unsigned char *)one->base + one->bytes;
    if (memcmp(before, edge, GUARD) == 0 && memcmp(after, edge, GUARD) == 0) return;
    for (int at = 0; at < GUARD; at++)
        if (before[at] != edge[at])
            standin_fail("%s: written up to %d bytes before allocation %llu (%zu bytes, device %d)", after_what, GUARD - at,
                         (unsigned long long)one->serial, one->bytes, one->device);
    for (int at = GUARD - 1; at >= 0; at--)
        if (after[at] != edge[at])
            standin_fail("%s: written up to %d bytes past the end of allocation %llu (%zu bytes, device %d)", after_what, at + 1,
                         (unsigned long long)one->serial, one->bytes, one->device);
}

void standin_check_guards(const char *after_what) {
    if (standin_rests()) return;
    standin_lock();
    for (size_t at = 0; at < count; at++) check(&live[at], after_what);
    standin_unlock();
}

void standin_free(void *start, bool host) {
    standin_lock();
    ptrdiff_t at = search(start);
    if (at < 0 || live[at].base != start)
        standin_fail("freed %p, where no allocation starts: freed twice, or never allocated", start);
    if ((live[at].device == HOST) != host)
        standin_fail("freed %p, which is %s memory, with the other kind's function", start, host ? "device" : "host");
    check(&live[at], host ? "cuMemFreeHost" : "cuMemFree");
    // NaN again, so that who still reads it shows.
    if (!standin_rests()) memset(start, 0xff, live[at].bytes);
    free(live[at].base - GUARD);
    memmove(live + at, live + at + 1, (count - (size_t)at - 1) * sizeof *live);
    count--;
    standin_unlock();
    standin_count(host ? "host_frees" : "frees", 1);
}

bool standin_find(const void *start, size_t bytes, struct found *found) {
    standin_lock();
    ptrdiff_t at = start ? search(start) : -1;
    bool inside = false;
    if (at >= 0) {
        size_t offset = (size_t)((const char *)start - live[at].base);
        inside = offset < live[at].bytes && bytes <= live[at].bytes - offset;
        if (found) *found = (struct found){live[at].base, live[at].bytes, live[at].device, live[at].flags};
    }
    standin_unlock();
    return inside;
}

bool standin_on_device(const void *start, size_t bytes) {
    struct found found;
    return standin_find(start, bytes, &found) && found.device != HOST;
}
