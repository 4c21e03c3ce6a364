/* BatchNorm over (examples, channels, plane). A split is `length` values of a channel, counted over examples and places. Each value
 * is read once: a thread's AHEAD values have moments about their own mean, and those are joined by Chan's formula (Chan, Golub, LeVeque 1979), to
 * a thread's, a split's and the channel's, so that nothing cancels. */
#include "kernel.h"

/* partial[split][channel]: mean, and sum of squares about it. */
struct norm_moments {
    const float *x;
    float *partial;
    u32 channels, plane, total, length, width;
};
KERNEL(norm_moments) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * p.width + threadIdx.x % p.width, split = blockIdx.y, step = BLOCK / p.width;
    u32 start = split * p.length, end = start + p.length, count;
    if (end > p.total) end = p.total;
    count = end - start;
    /* a thread without a channel */
    if (channel >= p.channels) end = start;
    /* Means are of what values differ by from the split's first one, so that they are no larger than they need be. */
    float pivot = start < end ? p.x[place(start, channel, p.channels, p.plane)] : 0.0f;
    /* of n values so far: their mean, and the sum of squares about it */
    float n = 0.0f, mean = 0.0f, squares = 0.0f;
    for (u32 first = start + threadIdx.x / p.width; first < end; first += AHEAD * step) {
        u32 at[AHEAD];
        float x[AHEAD], sum = 0.0f, about = 0.0f, fresh = 0.0f;
        places(at, first, step, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) x[k] = p.x[at[k]] - pivot;
        UNROLL for (u32 k = 0; k < AHEAD; k++) if (first + k * step < end) sum += x[k], fresh += 1.0f;
        float own = sum / fresh;
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            float off = x[k] - own;
            if (first + k * step < end) about += off * off;
        }
        float all = n + fresh, part = fresh / all, off = own - mean;
        squares += about + off * (off * (n * part));
        mean += off * part;
        n = all;
    }
    float whole = pivot + block_sum(n * mean, room, p.width) / (float)count, off = mean - (whole - pivot);
    squares += off * (off * n);
    squares = block_sum(squares, room, p.width);
    if (threadIdx.x < p.width && channel < p.channels) {
        p.partial[2 * (split * p.channels + channel)] = whole;
        p.partial[2 * (split * p.channels + channel) + 1] = squares;
    }
}

/* The sum over the threads of a block that have one of WIDE channels, in their order, for all of them. */
DEVICE double wide_sum(double value, double *room) {
    BARRIER();
    room[threadIdx.x] = value;
    BARRIER();
    double sum = 0.0;
    for (u32 other = threadIdx.x % WIDE; other < BLOCK; other += WIDE) sum += room[other];
    return sum;
}

/* moments[channel], the first two of four: mean, and 1 / sqrt(variance + eps), by the splits' own: squares about the mean of all are those about a split's and the
 * square of how far that is off. For the running statistics, `share` of the mean and of the unbiased variance, where they are wanted; a
 * bias that x should have had (`shift`, may be null) is in the mean of what it should have been, and nowhere else. A block for WIDE channels. */
struct norm_join {
    const struct inputs *inputs;
    const float *partial, *shift;
    float *moments, *running_mean, *running_variance;
    u32 channels, splits, total, length;
    double eps;
};
KERNEL(norm_join) {
    SHARED double room[BLOCK];
    enum { STEP = BLOCK / WIDE, MOST = MOST_SPLITS / STEP };
    u32 channel = blockIdx.x * WIDE + threadIdx.x % WIDE, splits = channel < p.channels ? p.splits : 0;
    float means[MOST], parts[MOST];
    UNROLL for (u32 k = 0; k < MOST; k++) {
        u32 split = threadIdx.x / WIDE + k * STEP, at = 2 * (split * p.channels + channel);
        means[k] = parts[k] = 0.0f;
        if (split < splits) means[k] = p.partial[at], parts[k] = p.partial[at + 1];
    }
    double mean = 0.0, squares = 0.0, total = (double)p.total;
    UNROLL for (u32 squared = 0; squared < 2; squared++) {
        double sum = 0.0;
        UNROLL for (u32 k = 0; k < MOST; k++) {
            u32 split = threadIdx.x / WIDE + k * STEP, start = split * p.length, end = start + p.length;
            if (split >= splits) continue;
            if (end > p.total) end = p.total;
            double n = (double)(end - start), off = (double)means[k] - mean;
            sum += squared ? (double)parts[k] + n * (off * off) : n * off;
        }
        sum = wide_sum(sum, room);
        if (squared) squares = sum;
        else mean = sum / total;
    }
    if (threadIdx.x >= WIDE || channel >= p.channels) return;
    p.moments[4 * channel] = (float)mean;
    p.moments[4 * channel + 1] = (float)(1.0 / sqrt(squares / total + p.eps));
    if (p.running_mean) {
        p.running_mean[channel] = p.inputs->share * (p.shift ? (float)(mean + (double)p.shift[channel]) : (float)mean);
        p.running_variance[channel] = p.inputs->share * (float)(squares / (total - 1.0));
    }
}

/* moments of the running statistics, for evaluation; `shift` as above. */
struct norm_running {
    const float *mean, *variance, *shift;
    float *moments;
    u32 channels;
    double eps;
};
KERNEL(norm_running) {
    u32 channel = HERE();
    if (channel >= p.channels) return;
    p.moments[4 * channel] = p.shift ? p.mean[channel] - p.shift[channel] : p.mean[channel];
    p.moments[4 * channel + 1] = (float)(1.0 / sqrt((double)p.variance[channel] + p.eps));
}

/* What a value of channel `channel` becomes before the activation: both ways compute it, by the same roundings. */
struct affine {
    float mean, inverse, weight, bias;
};
DEVICE struct affine affine_of(const float *moments, const float *weight, const float *bias, u32 channel) {
    struct affine a = {moments[4 * channel], moments[4 * channel + 1], weight[channel], bias[channel]};
    return a;
}
DEVICE float normal_of(const struct affine *a, float x) {
    return (x - a->mean) * a->inverse;
}

/* y = (x - mean) / deviation * weight + bias, then the activation. */
struct norm_forward {
    const float *x, *moments, *weight, *bias;
    float *y;
    u32 count, plane, channels, act;
    float slope;
};
KERNEL(norm_forward) {
    u32 first = FIRST();
    float x[EACH];
    struct affine a[EACH];
    if (first >= p.count) return;
    UNROLL for (u32 k = 0; k < EACH; k++) {
        u32 i = each(first, k, p.count);
        x[k] = p.x[i];
        a[k] = affine_of(p.moments, p.weight, p.bias, channel_of(i, p.channels, p.plane));
    }
    UNROLL for (u32 k = 0; k < EACH; k++) {
        float y = activated(p.act, p.slope, normal_of(&a[k], x[k]) * a[k].weight + a[k].bias);
        if (first + k * BLOCK < p.count) p.y[first + k * BLOCK] = y;
    }
}

/* partial[split][channel]: sums of dy × normal and of dy, each through the activation. */
struct norm_sums {
    const float *x, *dy, *moments, *weight, *bias;
    float *partial;
    u32 channels, plane, total, length, width, act;
    float slope;
};
KERNEL(norm_sums) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * p.width + threadIdx.x % p.width, split = blockIdx.y, step = BLOCK / p.width;
    u32 end = (split + 1) * p.length;
    bool has = channel < p.channels;
    if (end > p.total) end = p.total;
    if (!has) end = 0;
    struct affine a = affine_of(p.moments, p.weight, p.bias, has ? channel : 0);
    float products = 0.0f, sum = 0.0f;
    for (u32 first = split * p.length + threadIdx.x / p.width; first < end; first += AHEAD * step) {
        u32 at[AHEAD];
        float x[AHEAD], dy[AHEAD];
        places(at, first, step, end, channel, p.channels, p.plane);
        UNROLL for (u32 k = 0; k < AHEAD; k++) dy[k] = p.dy[at[k]], x[k] = p.x[at[k]];
        UNROLL for (u32 k = 0; k < AHEAD; k++) {
            if (first + k * step >= end) continue;
            float normal = normal_of(&a, x[k]), slope = slope_of(p.act, p.slope, normal * a.weight + a.bias, dy[k]);
            products += slope * normal;
            sum += slope;
        }
    }
    products = block_sum(products, room, p.width);
    sum = block_sum(sum, room, p.width);
    if (threadIdx.x < p.width && has) {
        p.partial[2 * (split * p.channels + channel)] = products;
        p.partial[2 * (split * p.channels + channel) + 1] = sum;
    }
}

/* moments[channel], the last two of four: the gradients' parts of a value. A block for WIDE channels. */
struct norm_finish {
    const float *partial;
    float *moments, *dweight, *dbias;
    u32 channels, splits, total;
};
KERNEL(norm_finish) {
    SHARED float room[BLOCK];
    u32 channel = blockIdx.x * WIDE + threadIdx.x % WIDE, at = channel < p.channels ? 2 * channel : 0;
    float products = split_sum(p.partial, at, 2 * p.channels, p.splits, room);
    float sum = split_sum(p.partial, at + 1, 2 * p.channels, p.splits, room);
    if (threadIdx.x >= WIDE || channel >= p.channels) return;
    p.dweight[channel] = products;
    p.dbias[channel] = sum;
    p.moments[4 * channel + 2] = products / (float)p.total;
    p.moments[4 * channel + 3] = sum / (float)p.total;
}

/* dx may be dy. */
struct norm_backward {
    const float *x, *dy, *moments, *weight, *bias;
    float *dx;
    u32 count, plane, channels, act;
    float slope;
};
KERNEL(norm_backward) {
    u32 first = FIRST();
    float x[EACH], dy[EACH], products[EACH], sums[EACH];
    struct affine a[EACH];
    if (first >= p.count) return;
    UNROLL for (u32 k = 0; k < EACH; k++) {
        u32 i = each(first, k, p.count), channel = channel_of(i, p.channels, p.plane);
        x[k] = p.x[i], dy[k] = p.dy[i];
        products[k] = p.moments[4 * channel + 2], sums[k] = p.moments[4 * channel + 3];
        a[k] = affine_of(p.moments, p.weight, p.bias, channel);
    }
    UNROLL for (u32 k = 0; k < EACH; k++) {
        float normal = normal_of(&a[k], x[k]), slope = slope_of(p.act, p.slope, normal * a[k].weight + a[k].bias, dy[k]);
        float without = slope - sums[k] - normal * products[k];
        if (first + k * BLOCK < p.count) p.dx[first + k * BLOCK] = a[k].weight * a[k].inverse * without;
    }
}
