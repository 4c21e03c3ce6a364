/* BatchNorm over (examples, channels, plane). A split is `length` values of a channel, counted over examples and places; its moments
 * are about its own mean, and splits are joined by Chan's formula, so that nothing cancels. */
#include "kernel.h"

/* partial[split][channel]: mean, and sum of squares about it. */
struct norm_moments {
    const float *x;
    float *partial;
    u32 channels, plane, total, length;
};
KERNEL(norm_moments) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x, split = blockIdx.y, start = split * p.length, end = start + p.length;
    if (end > p.total) end = p.total;
    float sum = 0.0f, squares = 0.0f;
    for (u32 first = start + threadIdx.x; first < end; first += AHEAD * BLOCK) {
        u32 at[AHEAD];
        float x[AHEAD];
        places(at, first, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) x[k] = p.x[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) if (first + k * BLOCK < end) sum += x[k];
    }
    float mean = block_sum(sum, room) / (float)(end - start);
    for (u32 first = start + threadIdx.x; first < end; first += AHEAD * BLOCK) {
        u32 at[AHEAD];
        float x[AHEAD];
        places(at, first, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) x[k] = p.x[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            float off = x[k] - mean;
            if (first + k * BLOCK < end) squares += off * off;
        }
    }
    squares = block_sum(squares, room);
    if (threadIdx.x == 0) {
        p.partial[2 * (split * p.channels + channel)] = mean;
        p.partial[2 * (split * p.channels + channel) + 1] = squares;
    }
}

/* moments[channel]: mean, and 1 / sqrt(variance + eps). For the running statistics, `share` of the mean and of the unbiased
 * variance, where they are wanted. */
struct norm_join {
    const struct inputs *inputs;
    const float *partial;
    float *moments, *running_mean, *running_variance;
    u32 channels, splits, total, length;
    double eps;
};
KERNEL(norm_join) {
    u32 channel = HERE();
    if (channel >= p.channels) return;
    double count = 0.0, mean = 0.0, squares = 0.0;
    for (u32 first = 0; first < p.splits; first += AHEAD) {
        float means[AHEAD], parts[AHEAD];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            u32 at = 2 * ((first + k < p.splits ? first + k : first) * p.channels + channel);
            means[k] = p.partial[at], parts[k] = p.partial[at + 1];
        }
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k >= p.splits) continue;
            u32 start = (first + k) * p.length, end = start + p.length;
            if (end > p.total) end = p.total;
            double n = (double)(end - start), off = (double)means[k] - mean;
            squares += (double)parts[k] + off * off * (count * n / (count + n));
            mean += off * (n / (count + n));
            count += n;
        }
    }
    p.moments[2 * channel] = (float)mean;
    p.moments[2 * channel + 1] = (float)(1.0 / sqrt(squares / count + p.eps));
    if (p.running_mean) {
        p.running_mean[channel] = p.inputs->share * (float)mean;
        p.running_variance[channel] = p.inputs->share * (float)(squares / (count - 1.0));
    }
}

/* moments of the running statistics, for evaluation. */
struct norm_running {
    const float *mean, *variance;
    float *moments;
    u32 channels;
    double eps;
};
KERNEL(norm_running) {
    u32 channel = HERE();
    if (channel >= p.channels) return;
    p.moments[2 * channel] = p.mean[channel];
    p.moments[2 * channel + 1] = (float)(1.0 / sqrt((double)p.variance[channel] + p.eps));
}

/* y = (x - mean) / deviation * weight + bias, then the activation. */
struct norm_forward {
    const float *x, *moments, *weight, *bias;
    float *y;
    u32 count, plane, channels, act;
    float slope;
};
KERNEL(norm_forward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 channel = i / p.plane % p.channels;
    float normal = (p.x[i] - p.moments[2 * channel]) * p.moments[2 * channel + 1];
    p.y[i] = activated(p.act, p.slope, normal * p.weight[channel] + p.bias[channel]);
}

/* dy, in place: through the activation. partial[split][channel]: sums of dy × normal and of dy. */
struct norm_sums {
    const float *x, *y, *moments;
    float *dy, *partial;
    u32 channels, plane, total, length, act;
    float slope;
};
KERNEL(norm_sums) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x, split = blockIdx.y, end = (split + 1) * p.length;
    if (end > p.total) end = p.total;
    float mean = p.moments[2 * channel], inverse = p.moments[2 * channel + 1];
    float products = 0.0f, sum = 0.0f;
    for (u32 first = split * p.length + threadIdx.x; first < end; first += AHEAD * BLOCK) {
        u32 at[AHEAD];
        float x[AHEAD], y[AHEAD], dy[AHEAD];
        places(at, first, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) dy[k] = y[k] = p.dy[at[k]], x[k] = p.x[at[k]];
        if (p.act != NOTHING) UNROLL for (u32 k = 0; k < AHEAD; k++) y[k] = p.y[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k * BLOCK >= end) continue;
            if (p.act != NOTHING) p.dy[at[k]] = dy[k] = slope_of(p.act, p.slope, y[k], dy[k]);
            products += dy[k] * ((x[k] - mean) * inverse);
            sum += dy[k];
        }
    }
    products = block_sum(products, room);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        p.partial[2 * (split * p.channels + channel)] = products;
        p.partial[2 * (split * p.channels + channel) + 1] = sum;
    }
}

struct norm_finish {
    const float *partial;
    float *dweight, *dbias;
    u32 channels, splits;
};
KERNEL(norm_finish) {
    u32 channel = HERE();
    if (channel >= p.channels) return;
    float products = 0.0f, sum = 0.0f;
    for (u32 split = 0; split < p.splits; split++) {
        products += p.partial[2 * (split * p.channels + channel)];
        sum += p.partial[2 * (split * p.channels + channel) + 1];
    }
    p.dweight[channel] = products;
    p.dbias[channel] = sum;
}

/* dx may be dy. */
struct norm_backward {
    const float *x, *dy, *moments, *weight, *dweight, *dbias;
    float *dx;
    u32 count, plane, channels, total;
};
KERNEL(norm_backward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 channel = i / p.plane % p.channels;
    float inverse = p.moments[2 * channel + 1], normal = (p.x[i] - p.moments[2 * channel]) * inverse;
    float n = (float)p.total;
    float without = p.dy[i] - p.dbias[channel] / n - normal * (p.dweight[channel] / n);
    p.dx[i] = p.weight[channel] * inverse * without;
}
