/* What every file of kernels begins with.
 *
 * A kernel has one parameter, a struct by value, which `kernels.rs` mirrors with #[repr(C)]. Sums have one order, set by the
 * shapes alone, and no atomics: the same bits each time. nvcc gets -fmad=false, so that what is rounded is what is written here.
 *
 * Where there is no nvcc the same text is plain C, which the stand-ins of tests/standin run on the CPU: no templates, no warps.
 */
#pragma once

#ifdef __CUDACC__
#define KERNEL(name) extern "C" __global__ void name(const struct name p)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define UNROLL _Pragma("unroll")
#else
#include "standin.h"
#define UNROLL
#endif

typedef unsigned char u8;
typedef unsigned int u32;

/* Threads of a block wherever a block adds up. */
#define BLOCK 256

/* The number of this thread, of all. */
#define HERE() (blockIdx.x * blockDim.x + threadIdx.x)

/* What differs from one pass of a plan to the next. It lies on the device, at the plan's own place, so that a captured pass needs no
 * other parameters; `inputs.rs` writes it. Dropout's keys, example numbers and labels follow. */
struct inputs {
    double divisor;   /* of the loss's slopes */
    double *losses;   /* where each example's loss goes */
    u32 *predictions; /* and its answer */
    float *sums;      /* sums that wait for their other half, one after the other */
    u32 depth;        /* how many wait */
    u32 merges;       /* how many of them this gradient completes */
    u32 rounded;      /* so many of the gradient's values are rounded to bf16 */
    u32 loss;         /* which one, by loss.cu's numbers */
    u32 turn;         /* dropout's first coordinate: the epoch */
    float share;      /* of the batch, for running statistics */
};

/* A square window over planes, and what comes of them. `beside`: channels that lie side by side at each place, 1 where planes lie apart. */
struct window {
    u32 height, width, out_height, out_width, kernel, stride, padding, beside;
};

/* Where value `i` of a channel lies, counted over examples and places. Channels side by side are planes of one value, and places examples. */
DEVICE u32 place(u32 i, u32 channel, u32 channels, u32 plane) {
    return plane == 1 ? i * channels + channel : (i / plane * channels + channel) * plane + i % plane;
}

/* Likewise the channel of value `i` of all. */
DEVICE u32 channel_of(u32 i, u32 channels, u32 plane) {
    return (plane == 1 ? i : i / plane) % channels;
}

/* Values of a thread that are on their way at once, where it adds up many. A load takes hundreds of cycles, and none begins before a store
 * that may have changed its value, nor does nvcc look past a loop's end for the next: so first all are loaded, then used, in the order in
 * which they would be one by one. Eight times a channel's threads are the least values of a split (channels.rs). */
#define AHEAD 8

/* Likewise where each value is computed alone: values of a thread, and the first of them; the others are BLOCK further each. */
#define EACH 4
#define FIRST() (blockIdx.x * (EACH * BLOCK) + threadIdx.x)

/* Where value `k` of a thread lies, or past the end its first one, which is loaded again in vain: another thread's value may be changing meanwhile. */
DEVICE u32 each(u32 first, u32 k, u32 end) {
    u32 i = first + k * BLOCK;
    return i < end ? i : first;
}

/* Where a block adds up channels it has `width` of them, whose values its threads read side by side: 1 where a channel's values lie
 * together, WIDE where channels do. */
#define WIDE 32

/* Where values `first`, `first` + `step`, … of a channel lie; those from `end` on are `first` again: loaded in vain, and never used. */
DEVICE void places(u32 *at, u32 first, u32 step, u32 end, u32 channel, u32 channels, u32 plane) {
    UNROLL for (u32 k = 0; k < AHEAD; k++) {
        u32 i = first + k * step;
        at[k] = place(i < end ? i : first, channel, channels, plane);
    }
}

/* What follows a layer in the same kernel. */
enum { NOTHING = 0, RELU = 1, LEAKY_RELU = 2 };

/* NaN stays NaN, and the slope at 0 is the left one, as in PyTorch. */
DEVICE float activated(u32 act, float slope, float x) {
    if (act == RELU) return x <= 0.0f ? 0.0f : x;
    if (act == LEAKY_RELU) return x > 0.0f ? x : x * slope;
    return x;
}

/* dy through the activation, whose input or (where the slope is not negative) output was `seen`. */
DEVICE float slope_of(u32 act, float slope, float seen, float dy) {
    if (act == RELU) return seen <= 0.0f ? 0.0f : dy;
    if (act == LEAKY_RELU) return seen > 0.0f ? dy : dy * slope;
    return dy;
}

/* The sum over the threads of a block that have one channel of its `width`, for all of them; `room` is BLOCK floats that all share. */
DEVICE float block_sum(float value, float *room, u32 width) {
    BARRIER();
    room[threadIdx.x] = value;
    BARRIER();
    for (u32 half = BLOCK / 2; half >= width; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        BARRIER();
    }
    return room[threadIdx.x % width];
}

/* Splits of a channel, at most (channels.rs): so few that a thread that joins them loads all of its own at once. */
#define MOST_SPLITS 256

/* The sum of what `splits` blocks left for one of WIDE channels, `step` values apart, the first of them `at`, for all threads of the channel.
 * `at` must be good for threads without a channel, too. */
DEVICE float split_sum(const float *partial, u32 at, u32 step, u32 splits, float *room) {
    enum { STEP = BLOCK / WIDE, MOST = MOST_SPLITS / STEP };
    float parts[MOST], sum = 0.0f;
    UNROLL for (u32 k = 0; k < MOST; k++) {
        u32 split = threadIdx.x / WIDE + k * STEP;
        parts[k] = split < splits ? partial[at + split * step] : 0.0f;
    }
    UNROLL for (u32 k = 0; k < MOST; k++) if (threadIdx.x / WIDE + k * STEP < splits) sum += parts[k];
    return block_sum(sum, room, WIDE);
}
