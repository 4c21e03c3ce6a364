/* The optimizer's step, one thread a value: the operations of proto/src/optimizer in their order, each rounded once, so that the coordinator's
 * bits come of them. Everything lies as the weights do; what is between tensors is 0, and stays so. The gradient is only read: it is on its
 * way home meanwhile. */
#include "kernel.h"

/* The gradient with the slope of the penalties (penalty.rs), in double precision. Without them it keeps its bits: -0 + 0 is +0. */
DEVICE float penalised(float g, float w, double l1, double l2) {
    double sign = w > 0.0f ? 1.0 : w < 0.0f ? -1.0 : (double)w;
    return l1 == 0.0 && l2 == 0.0 ? g : (float)((double)g + l1 * sign + 2.0 * l2 * (double)w);
}

/* `m` is null without momentum. */
struct sgd_step {
    float *w, *m;
    const float *g;
    u32 count, first, nesterov;
    float rate, momentum, taken, decay;
    double l1, l2;
};
KERNEL(sgd_step) {
    u32 i = HERE();
    if (i >= p.count) return;
    float w = p.w[i], g = penalised(p.g[i], w, p.l1, p.l2);
    /* a decay of 0 must not touch the gradient */
    if (p.decay != 0.0f) g = g + p.decay * w;
    if (p.m) {
        float m = p.first ? g : p.momentum * p.m[i] + p.taken * g;
        p.m[i] = m;
        g = p.nesterov ? g + p.momentum * m : m;
    }
    p.w[i] = w + p.rate * g;
}

struct adam_step {
    float *w, *m, *v;
    const float *g;
    u32 count;
    float rate, root, new1, new2, old2, shrink, decay, eps;
    double l1, l2;
};
KERNEL(adam_step) {
    u32 i = HERE();
    if (i >= p.count) return;
    float g = penalised(p.g[i], p.w[i], p.l1, p.l2), w = p.w[i] * p.shrink, m = p.m[i], v = p.v[i];
    if (p.decay != 0.0f) g = g + p.decay * w;
    /* from the nearer end */
    m = p.new1 < 0.5f ? m + p.new1 * (g - m) : g - (g - m) * (1.0f - p.new1);
    v = v * p.old2 + p.new2 * g * g;
    p.m[i] = m;
    p.v[i] = v;
    p.w[i] = w + p.rate * m / (sqrtf(v) / p.root + p.eps);
}

/* BatchNorm's running statistics, which come in the gradient's place: in double precision, rounded once. */
struct observe {
    float *w;
    const float *g;
    u32 count;
    double momentum;
};
KERNEL(observe) {
    u32 i = HERE();
    if (i < p.count) p.w[i] = (float)((1.0 - p.momentum) * (double)p.w[i] + p.momentum * (double)p.g[i]);
}
