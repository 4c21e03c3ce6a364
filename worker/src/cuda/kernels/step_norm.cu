/* What a step is told of, and clipped by: the norm of the whole gradient and the penalty of all parameters, by the sums of
 * proto/src/optimizer/sums.rs in their order, so that the coordinator's bits come of them. Blocks are of the flat vector, in which tensors
 * lie without the gaps that they have here. */
#include "kernel.h"
#include "penalty.h"

/* `BLOCK` and `LANES` of sums.rs. */
#define SUM_BLOCK 4096
#define SUM_LANES 16

/* table[tensor]: the first of its values in the flat vector, and how much further it lies here; one more at the end. Each block leaves
 * the squares of its gradients, and, where there are penalties, the sums of |parameter| and of its square. */
struct step_sums {
    const float *w, *g;
    const u32 *table;
    double *partial;
    u32 tensors, count, blocks;
    double l1, l2;
};
KERNEL(step_sums) {
    SHARED double room[3][BLOCK];
    u32 block = HERE() / SUM_LANES, first = block * SUM_BLOCK + threadIdx.x % SUM_LANES, end = (block + 1) * SUM_BLOCK;
    if (end > p.count) end = p.count;
    double norm = 0.0, absolute = 0.0, squares = 0.0;
    int penalties = p.l1 != 0.0 || p.l2 != 0.0;
    if (first < end) {
        /* the last tensor that does not begin behind the first value */
        u32 tensor = 0, beyond = p.tensors;
        while (beyond - tensor > 1) {
            u32 middle = tensor + (beyond - tensor) / 2;
            if (p.table[2 * middle] <= first) tensor = middle;
            else beyond = middle;
        }
        for (u32 start = first; start < end; start += AHEAD * SUM_LANES) {
            float g[AHEAD], w[AHEAD];
            UNROLL for (u32 k = 0; k < AHEAD; k++) {
                u32 i = start + k * SUM_LANES;
                g[k] = w[k] = 0.0f;
                if (i >= end) continue;
                while (p.table[2 * (tensor + 1)] <= i) tensor++;
                u32 at = i + p.table[2 * tensor + 1];
                g[k] = p.g[at];
                if (penalties) w[k] = p.w[at];
            }
            UNROLL for (u32 k = 0; k < AHEAD; k++) {
                if (start + k * SUM_LANES >= end) continue;
                double gradient = penalised(g[k], w[k], p.l1, p.l2), parameter = w[k];
                norm += gradient * gradient;
                absolute += parameter < 0.0 ? -parameter : parameter;
                squares += parameter * parameter;
            }
        }
    }
    room[0][threadIdx.x] = norm;
    room[1][threadIdx.x] = absolute;
    room[2][threadIdx.x] = squares;
    BARRIER();
    /* a thread a block and sum */
    u32 sum = threadIdx.x % SUM_LANES;
    if (sum < 3 && block < p.blocks) {
        double total = 0.0;
        for (u32 lane = 0; lane < SUM_LANES; lane++) total += room[sum][threadIdx.x - sum + lane];
        p.partial[sum * p.blocks + block] = total;
    }
}

/* told[0], told[1]: penalty and norm. `scale`: what gradients are multiplied by for a norm of `most` (0: as it is). One block. */
struct step_told {
    const double *partial;
    double *told;
    float *scale;
    u32 blocks;
    double l1, l2, most;
};
KERNEL(step_told) {
    SHARED double room[3][BLOCK];
    double total = 0.0;
    for (u32 first = 0; first < p.blocks; first += BLOCK) {
        BARRIER();
        for (u32 sum = 0; sum < 3; sum++) {
            u32 at = first + threadIdx.x;
            room[sum][threadIdx.x] = at < p.blocks ? p.partial[sum * p.blocks + at] : 0.0;
        }
        BARRIER();
        /* one after the other, as they lie */
        if (threadIdx.x < 3)
            for (u32 i = 0; i < BLOCK && first + i < p.blocks; i++) total += room[threadIdx.x][i];
    }
    if (threadIdx.x < 3) room[threadIdx.x][0] = total;
    BARRIER();
    if (threadIdx.x == 0) {
        double norm = sqrt(room[0][0]), scale = p.most / (norm + 1e-6);
        /* one that is off is not summed: 0 times infinity is NaN */
        double first = p.l1 == 0.0 ? 0.0 : p.l1 * room[1][0], second = p.l2 == 0.0 ? 0.0 : p.l2 * room[2][0];
        p.told[0] = first + second;
        p.told[1] = norm;
        /* a NaN must reach the gradient */
        *p.scale = p.most != 0.0 && !(scale >= 1.0) ? (float)scale : 1.0f;
    }
}
