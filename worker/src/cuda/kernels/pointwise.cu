/* What each value is computed for itself, one or a few a thread. */
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

/* Four words of Philox4x32-10 (proto/src/keys.rs), draws 4 * `block` and on of the stream (epoch, example, 0). */
DEVICE void philox(u32 k0, u32 k1, u32 block, u32 epoch, u32 example, u32 *c) {
    c[0] = block, c[1] = epoch, c[2] = example, c[3] = 0;
    UNROLL for (u32 round = 0; round < 10; round++) {
        if (round > 0) {
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        unsigned long long p0 = (unsigned long long)c[0] * 0xD2511F53u, p1 = (unsigned long long)c[2] * 0xCD9E8D57u;
        u32 next[4] = {(u32)(p1 >> 32) ^ c[1] ^ k0, (u32)p1, (u32)(p0 >> 32) ^ c[3] ^ k1, (u32)p0};
        for (u32 word = 0; word < 4; word++) c[word] = next[word];
    }
}

/* Forward and backward are one: the same draws again cost less than memory for the mask. `row` values of an example, a draw for
 * `repeat` of them, counted plane by plane, though `beside` channels may lie side by side. A thread has EACH values that lie together: unless channels
 * do, and each value has its draw, those come of one Philox, which costs as much as all the rest of them. */
struct dropout {
    const struct inputs *inputs;
    const u32 *key, *examples;
    const float *x;
    float *y;
    u32 count, row, repeat, beside;
    float keep;
    double probability;
};
typedef char a_float4_is_a_threads[EACH == 4 ? 1 : -1];
KERNEL(dropout) {
    u32 first = EACH * HERE(), end = first + EACH;
    if (first >= p.count) return;
    float value[EACH] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (end <= p.count) {
        float4 all = *(const float4 *)(p.x + first);
        value[0] = all.x, value[1] = all.y, value[2] = all.z, value[3] = all.w;
    } else {
        UNROLL for (u32 k = 0; k < EACH; k++) if (first + k < p.count) value[k] = p.x[first + k];
    }
    u32 example = first / p.row, at = first - example * p.row, places = p.row / p.beside;
    u32 place = at / p.beside, channel = at - place * p.beside;
    u32 c[4], block = 0, of = p.count; /* whose words those are: nobody's */
    UNROLL for (u32 k = 0; k < EACH; k++) {
        if (first + k >= p.count) break;
        u32 draw = (channel * places + place) / p.repeat;
        if (of != example || block != draw / 4) {
            of = example, block = draw / 4;
            philox(p.key[0], p.key[1], block, p.inputs->turn, p.examples[example], c);
        }
        u32 word = draw % 4, bits = word == 0 ? c[0] : word == 1 ? c[1] : word == 2 ? c[2] : c[3];
        float unit = (float)(bits >> 8) * (1.0f / 16777216.0f);
        value[k] *= (double)unit >= p.probability ? p.keep : 0.0f;
        if (++channel == p.beside) channel = 0, place++;
        if (place == places) place = 0, example++;
    }
    if (end <= p.count) {
        *(float4 *)(p.y + first) = make_float4(value[0], value[1], value[2], value[3]);
    } else {
        UNROLL for (u32 k = 0; k < EACH; k++) if (first + k < p.count) p.y[first + k] = value[k];
    }
}
