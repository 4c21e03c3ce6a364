/* Sums: of bias gradients, the activation's slope first, over examples and places; of whole gradients along the reduction tree. */
#include "pool.h"

/* dx = dy, through a max pool (if `at` is not null) and the activation before it, whose output was y; without a pool dx is dy.
 * partial[split][channel]: the split's part of the sum. A block for each channel and split; a split is `length` values of the
 * channel, counted over examples and places. */
struct bias_backward {
    const float *y, *dy;
    const u32 *at;
    float *dx, *partial;
    u32 channels, plane, total, length, act;
    float slope;
    struct window w;
};
KERNEL(bias_backward) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x, split = blockIdx.y, end = (split + 1) * p.length;
    if (end > p.total) end = p.total;
    float sum = 0.0f;
    for (u32 i = split * p.length + threadIdx.x; i < end; i += BLOCK) {
        u32 here = place(i, channel, p.channels, p.plane);
        /* a value is the output of every window that it wins; one that wins none gets 0, whatever is seen */
        u32 seen = p.at ? 0 : here;
        float dy = p.at ? from_windows(&p.w, p.at, p.dy, here, &seen) : p.dy[here];
        if (p.act != NOTHING) dy = slope_of(p.act, p.slope, p.y[seen], dy);
        if (p.at || p.act != NOTHING) p.dx[here] = dy;
        sum += dy;
    }
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) p.partial[split * p.channels + channel] = sum;
}

/* The splits of each channel, in order. */
struct finish_sums {
    const float *partial;
    float *out;
    u32 channels, splits;
};
KERNEL(finish_sums) {
    u32 channel = HERE();
    if (channel >= p.channels) return;
    float sum = 0.0f;
    for (u32 split = 0; split < p.splits; split++) sum += p.partial[split * p.channels + channel];
    p.out[channel] = sum;
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
    u32 column = blockIdx.x * 32 + threadIdx.x % 32, lane = threadIdx.x / 32;
    float sum = 0.0f;
    if (column < p.columns) {
        for (u32 row = lane; row < p.rows; row += BLOCK / 32) {
            u32 at = row * p.columns + column;
            float dy = p.dy[at];
            if (p.act != NOTHING) {
                dy = slope_of(p.act, p.slope, p.y[at], dy);
                p.dy[at] = dy;
            }
            sum += dy;
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
 * proto/src/tree.rs. */
enum { LANES = 8 };
struct join_sums {
    const struct inputs *inputs[LANES];
    const float *gradients[LANES];
    u32 shards, count;
};
KERNEL(join_sums) {
    u32 i = HERE();
    if (i >= p.count) return;
    for (u32 shard = 0; shard < p.shards; shard++) {
        const struct inputs *inputs = p.inputs[shard];
        u32 at = inputs->depth;
        float sum = p.gradients[shard][i];
        if (i < inputs->rounded) sum = to_bf16(sum);
        for (u32 merged = 0; merged < inputs->merges; merged++) {
            at--;
            sum = inputs->sums[(unsigned long long)at * p.count + i] + sum;
        }
        inputs->sums[(unsigned long long)at * p.count + i] = sum;
    }
}
