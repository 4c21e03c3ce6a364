/* Sums: of bias gradients, the activation's slope first, over examples and places; of whole gradients along the reduction tree. */
#include "pool.h"
#include "transposed.h"

/* dx = dy, through a max pool (if `at` is not null) and the activation before it, whose output was y; without a pool dx is dy.
 * partial[split][channel]: the split's part of the sum. A block for each `width` channels and split; a split is `length` values of a
 * channel, counted over examples and places. */
struct bias_backward {
    const float *y, *dy;
    const u32 *at;
    float *dx, *partial;
    u32 channels, plane, total, length, width, act;
    float slope;
    struct window w;
};
/* The same through windows that overlap: how many are over a value differs from one to the next. */
DEVICE float bias_backward_overlapping(const struct bias_backward *p, u32 first, u32 end, u32 channel) {
    float sum = 0.0f;
    for (u32 i = first; i < end; i += BLOCK / p->width) {
        u32 here = place(i, channel, p->channels, p->plane), seen = 0;
        /* a value is the output of every window that it wins; one that wins none gets 0, whatever is seen */
        float dy = from_windows(&p->w, p->at, p->dy, here, &seen);
        if (p->act != NOTHING) dy = slope_of(p->act, p->slope, p->y[seen], dy);
        p->dx[here] = dy;
        sum += dy;
    }
    return sum;
}
KERNEL(bias_backward) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * p.width + threadIdx.x % p.width, split = blockIdx.y, step = BLOCK / p.width;
    u32 start = split * p.length + threadIdx.x / p.width, end = (split + 1) * p.length;
    if (end > p.total) end = p.total;
    if (channel >= p.channels) end = 0;
    float sum = 0.0f;
    bool overlap = p.at && p.w.stride < p.w.kernel;
    if (overlap) sum = bias_backward_overlapping(&p, start, end, channel);
    for (u32 first = start; first < end && !overlap; first += AHEAD * step) {
        u32 here[AHEAD], from[AHEAD], mine[AHEAD], winner[AHEAD];
        float dy[AHEAD], seen[AHEAD];
        places(here, first, step, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            from[k] = here[k], mine[k] = winner[k] = 0;
            if (p.at) from[k] = only_window(&p.w, here[k], &mine[k]);
        }
        UNROLL for (u32 k = 0; k < AHEAD; k++) dy[k] = seen[k] = p.dy[from[k]];
        if (p.at) UNROLL for (u32 k = 0; k < AHEAD; k++) winner[k] = p.at[from[k]];
        if (p.act != NOTHING) UNROLL for (u32 k = 0; k < AHEAD; k++) seen[k] = p.y[from[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k * step >= end) continue;
            /* as a sum of one, which is never -0.0 */
            float slope = p.at ? winner[k] == mine[k] ? 0.0f + dy[k] : 0.0f : dy[k];
            if (p.act != NOTHING) slope = slope_of(p.act, p.slope, seen[k], slope);
            if (p.at || p.act != NOTHING) p.dx[here[k]] = slope;
            sum += slope;
        }
    }
    sum = block_sum(sum, room, p.width);
    if (threadIdx.x < p.width && channel < p.channels) p.partial[split * p.channels + channel] = sum;
}

/* The splits of each channel. A block for WIDE channels. */
struct finish_sums {
    const float *partial;
    float *out;
    u32 channels, splits;
};
KERNEL(finish_sums) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * WIDE + threadIdx.x % WIDE;
    float sum = split_sum(p.partial, channel < p.channels ? channel : 0, p.channels, p.splits, room);
    if (threadIdx.x < WIDE && channel < p.channels) p.out[channel] = sum;
}

/* The same for rows of features: a block for 32 columns, 8 rows at a time. `db` may be null. */
struct column_backward {
    const float *y;
    float *dy, *db;
    u32 rows, columns, act;
    float slope;
};
KERNEL(column_backward) {
    SHARED float room[BLOCK];
    enum { ROWS = BLOCK / 32 };
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    float sum = 0.0f;
    for (u32 first = lane; first < p.rows && column < p.columns; first += AHEAD * ROWS) {
        u32 at[AHEAD];
        float dy[AHEAD], y[AHEAD];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            u32 row = first + k * ROWS;
            at[k] = (row < p.rows ? row : first) * p.columns + column;
        }
        UNROLL for (u32 k = 0; k < AHEAD; k++) dy[k] = y[k] = p.dy[at[k]];
        if (p.act != NOTHING) UNROLL for (u32 k = 0; k < AHEAD; k++) y[k] = p.y[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k * ROWS >= p.rows) continue;
            if (p.act != NOTHING) p.dy[at[k]] = dy[k] = slope_of(p.act, p.slope, y[k], dy[k]);
            sum += dy[k];
        }
    }
    room[threadIdx.x] = sum;
    BARRIER();
    if (lane == 0 && column < p.columns && p.db) {
        for (u32 other = 1; other < BLOCK / 32; other++) sum += room[other * 32 + threadIdx.x];
        p.db[column] = sum;
    }
}

/* To the nearest bf16, ties to even, as proto/src/codec.rs has it. */
DEVICE float to_bf16(float value) {
    u32 bits = __float_as_uint(value);
    if (value != value) return __uint_as_float((bits & 0xffff0000u) | 0x00400000u);
    return __uint_as_float((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

/* Shards' gradients join the sums that wait, one after the other. Each: the last sums first, as many as it completes, and what comes of it
 * waits in the place of the first of those. An addition in f32 is the same whichever half comes first, so these are the sums of
 * proto/src/tree.rs. Convolutions leave the gradients of `tensors` weights transposed. */
enum { LANES = 8 };
struct join_sums {
    const struct inputs *inputs[LANES];
    const float *gradients[LANES];
    const struct transposed *transposed;
    u32 tensors, shards, count;
};
KERNEL(join_sums) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 from = p.tensors > 0 ? transposed_place(p.transposed, p.tensors, i) : i;
    for (u32 shard = 0; shard < p.shards; shard++) {
        const struct inputs *inputs = p.inputs[shard];
        u32 at = inputs->depth;
        float sum = p.gradients[shard][from];
        if (i < inputs->rounded) sum = to_bf16(sum);
        for (u32 merged = 0; merged < inputs->merges; merged++) {
            at--;
            sum = inputs->sums[(unsigned long long)at * p.count + i] + sum;
        }
        inputs->sums[(unsigned long long)at * p.count + i] = sum;
    }
}
