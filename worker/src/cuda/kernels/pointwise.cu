/* One thread a value. */
#include "kernel.h"

/* y += bias of its channel, then the activation; `bias` may be null. y is (examples, channels, plane). */
struct bias_act {
    float *y;
    const float *bias;
    u32 count, plane, channels, act;
    float slope;
};
KERNEL(bias_act) {
    u32 first = FIRST();
    float y[EACH], bias[EACH];
    if (first >= p.count) return;
    UNROLL for (u32 k = 0; k < EACH; k++) {
        u32 i = each(first, k, p.count);
        y[k] = p.y[i];
        bias[k] = p.bias ? p.bias[channel_of(i, p.channels, p.plane)] : 0.0f;
    }
    UNROLL for (u32 k = 0; k < EACH; k++) {
        if (p.bias) y[k] += bias[k];
        if (first + k * BLOCK < p.count) p.y[first + k * BLOCK] = activated(p.act, p.slope, y[k]);
    }
}

struct act_forward {
    const float *x;
    float *y;
    u32 count, act;
    float slope;
};
KERNEL(act_forward) {
    u32 i = HERE();
    if (i < p.count) p.y[i] = activated(p.act, p.slope, p.x[i]);
}

/* dx may be dy. */
struct act_backward {
    const float *x, *dy;
    float *dx;
    u32 count, act;
    float slope;
};
KERNEL(act_backward) {
    u32 i = HERE();
    if (i < p.count) p.dx[i] = slope_of(p.act, p.slope, p.x[i], p.dy[i]);
}

/* y may be a or b. */
struct add {
    const float *a, *b;
    float *y;
    u32 count;
};
KERNEL(add) {
    u32 i = HERE();
    if (i < p.count) p.y[i] = p.a[i] + p.b[i];
}

/* One word of Philox4x32-10 (proto/src/keys.rs): draw number `at` of the stream (epoch, example, 0). */
DEVICE u32 philox(u32 k0, u32 k1, u32 at, u32 epoch, u32 example) {
    u32 c[4] = {at / 4, epoch, example, 0};
    for (u32 round = 0; round < 10; round++) {
        if (round > 0) {
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        unsigned long long p0 = (unsigned long long)c[0] * 0xD2511F53u, p1 = (unsigned long long)c[2] * 0xCD9E8D57u;
        u32 next[4] = {(u32)(p1 >> 32) ^ c[1] ^ k0, (u32)p1, (u32)(p0 >> 32) ^ c[3] ^ k1, (u32)p0};
        for (u32 word = 0; word < 4; word++) c[word] = next[word];
    }
    return c[at % 4];
}

/* Forward and backward are one: the same draws again cost less than memory for the mask. `row` values of an example, a draw for
 * `repeat` of them, counted plane by plane, though `beside` channels may lie side by side. */
struct dropout {
    const struct inputs *inputs;
    const u32 *key, *examples;
    const float *x;
    float *y;
    u32 count, row, repeat, beside;
    float keep;
    double probability;
};
KERNEL(dropout) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 at = i % p.row;
    if (p.beside > 1) at = at % p.beside * (p.row / p.beside) + at / p.beside;
    u32 bits = philox(p.key[0], p.key[1], at / p.repeat, p.inputs->turn, p.examples[i / p.row]);
    float unit = (float)(bits >> 8) * (1.0f / 16777216.0f);
    p.y[i] = p.x[i] * ((double)unit >= p.probability ? p.keep : 0.0f);
}
