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
/* Through windows that overlap: how many are over a value differs from one to the next. */
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
    if (p.at) sum = bias_backward_overlapping(&p, start, end, channel);
    for (u32 first = start; first < end && !p.at; first += AHEAD * step) {
        u32 at[AHEAD];
        float dy[AHEAD], y[AHEAD];
        places(at, first, step, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) dy[k] = y[k] = p.dy[at[k]];
        if (p.act != NOTHING) UNROLL for (u32 k = 0; k < AHEAD; k++) y[k] = p.y[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k * step >= end) continue;
            if (p.act != NOTHING) p.dx[at[k]] = dy[k] = slope_of(p.act, p.slope, y[k], dy[k]);
            sum += dy[k];
        }
    }
    sum = block_sum(sum, room, p.width);
    if (threadIdx.x < p.width && channel < p.channels) p.partial[split * p.channels + channel] = sum;
}

/* The same through windows that do not overlap: a thread a window, which fills it, and what lies between it and the next. Splits and their
 * values are of the windows; what no window's greatest is adds nothing to a sum. */
struct pool_backward {
    const float *y, *dy;
    const u32 *at;
    float *dx, *partial;
    u32 channels, total, length, width, act;
    float slope;
    struct window w;
};
KERNEL(pool_backward) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * p.width + threadIdx.x % p.width, split = blockIdx.y, step = BLOCK / p.width;
    u32 start = split * p.length + threadIdx.x / p.width, end = (split + 1) * p.length;
    if (end > p.total) end = p.total;
    if (channel >= p.channels) end = 0;
    float sum = 0.0f;
    for (u32 first = start; first < end; first += EACH * step) {
        struct spot spots[EACH];
        u32 winner[EACH];
        float dy[EACH], y[EACH];
        UNROLL for (u32 k = 0; k < EACH; k++) {
            u32 window = first + k * step < end ? first + k * step : first;
            u32 line = window / p.w.out_width, image = line / p.w.out_height;
            struct spot spot = {line - image * p.w.out_height, window - line * p.w.out_width, 0, image};
            if (p.w.beside == 1) spot.image = image * p.channels + channel;
            else spot.beside = channel;
            u32 from = value_at(&spot, spot.row, spot.column, p.w.out_height, p.w.out_width, p.w.beside);
            spots[k] = spot;
            winner[k] = p.at[from], dy[k] = y[k] = p.dy[from];
            if (p.act != NOTHING) y[k] = p.y[from];
        }
        UNROLL for (u32 k = 0; k < EACH; k++) {
            if (first + k * step >= end) continue;
            /* as a sum of one, which is never -0.0 */
            float slope = 0.0f + dy[k];
            if (p.act != NOTHING) slope = slope_of(p.act, p.slope, y[k], slope);
            sum += slope;
            u32 row = spots[k].row, column = spots[k].column, bottom = p.w.height, right = p.w.width;
            if (row + 1 < p.w.out_height) bottom = (row + 1) * p.w.stride - p.w.padding;
            if (column + 1 < p.w.out_width) right = (column + 1) * p.w.stride - p.w.padding;
            u32 left = column > 0 ? column * p.w.stride - p.w.padding : 0;
            for (u32 at_row = row > 0 ? row * p.w.stride - p.w.padding : 0; at_row < bottom; at_row++) {
                for (u32 at_column = left; at_column < right; at_column++) {
                    u32 to = value_at(&spots[k], at_row, at_column, p.w.height, p.w.width, p.w.beside);
                    p.dx[to] = at_row * p.w.width + at_column == winner[k] ? slope : 0.0f;
                }
            }
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
    u32 first = FIRST(), from[EACH];
    if (first >= p.count) return;
    UNROLL for (u32 k = 0; k < EACH; k++) {
        u32 i = each(first, k, p.count);
        from[k] = p.tensors > 0 ? transposed_place(p.transposed, p.tensors, i) : i;
    }
    for (u32 shard = 0; shard < p.shards; shard++) {
        const struct inputs *inputs = p.inputs[shard];
        float sum[EACH], *sums = inputs->sums;
        u32 at = inputs->depth, merges = inputs->merges, rounded = inputs->rounded;
        UNROLL for (u32 k = 0; k < EACH; k++) sum[k] = p.gradients[shard][from[k]];
        UNROLL for (u32 k = 0; k < EACH; k++) if (first + k * BLOCK < rounded) sum[k] = to_bf16(sum[k]);
        for (u32 merged = 0; merged < merges; merged++) {
            at--;
            UNROLL for (u32 k = 0; k < EACH; k++) {
                u32 i = each(first, k, p.count);
                sum[k] = sums[(unsigned long long)at * p.count + i] + sum[k];
            }
        }
        UNROLL for (u32 k = 0; k < EACH; k++) {
            if (first + k * BLOCK < p.count) sums[(unsigned long long)at * p.count + first + k * BLOCK] = sum[k];
        }
    }
}
