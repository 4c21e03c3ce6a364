/* The optimizer's step, one thread a value: the operations of proto/src/optimizer in their order, each rounded once, so that the coordinator's
 * bits come of them. Everything lies as the weights do; what is between tensors is 0, and stays so. The gradient is only read: it is on its
 * way home meanwhile. */
#include "kernel.h"
#include "penalty.h"

/* No state is subnormal: processors take a hundred times as long for such a value. FLT_MIN, without its header. */
DEVICE float normal(float x) { return fabsf(x) < 1.17549435e-38f ? 0.0f : x; }

/* With penalties, and clipped; times 1 is the same bits. */
DEVICE float of_step(float g, float w, double l1, double l2, const float *scale) {
    return penalised(g, w, l1, l2) * *scale;
}

/* `m` is null without momentum. */
struct sgd_step {
    float *w, *m;
    const float *g, *scale;
    u32 count, first, nesterov;
    float rate, momentum, taken, decay;
    double l1, l2;
};
KERNEL(sgd_step) {
    u32 i = HERE();
    if (i >= p.count) return;
    float w = p.w[i], g = of_step(p.g[i], w, p.l1, p.l2, p.scale);
    /* a decay of 0 must not touch the gradient */
    if (p.decay != 0.0f) g = g + p.decay * w;
    if (p.m) {
        float m = normal(p.first ? g : p.momentum * p.m[i] + p.taken * g);
        p.m[i] = m;
        g = p.nesterov ? g + p.momentum * m : m;
    }
    p.w[i] = w + p.rate * g;
}

struct adam_step {
    float *w, *m, *v;
    const float *g, *scale;
    u32 count;
    float rate, root, new1, new2, old2, shrink, decay, eps;
    double l1, l2;
};
KERNEL(adam_step) {
    u32 i = HERE();
    if (i >= p.count) return;
    float g = of_step(p.g[i], p.w[i], p.l1, p.l2, p.scale), w = p.w[i] * p.shrink, m = p.m[i], v = p.v[i];
    if (p.decay != 0.0f) g = g + p.decay * w;
    /* from the nearer end */
    m = normal(p.new1 < 0.5f ? m + p.new1 * (g - m) : g - (g - m) * (1.0f - p.new1));
    v = normal(v * p.old2 + p.new2 * g * g);
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
