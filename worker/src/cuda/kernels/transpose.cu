/* The ways between images plane by plane and images with their channels side by side. */
#include "transposed.h"

/* y[group][column][row] = x[group][row][column] */
struct transpose {
    const float *x;
    float *y;
    u32 count, rows, columns;
};
KERNEL(transpose) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 group = i / (p.rows * p.columns) * (p.rows * p.columns), at = i - group;
    p.y[i] = p.x[group + at % p.rows * p.columns + at / p.rows];
}

/* `out`: all transposed tensors of the weights w. A thread a value. */
struct transpose_weights {
    const float *w;
    float *out;
    const struct transposed *transposed;
    u32 tensors, count;
};
KERNEL(transpose_weights) {
    u32 i = HERE();
    if (i >= p.count) return;
    struct transposed t = tensor_at(p.transposed, p.tensors, i, true);
    /* between two tensors */
    if (i - t.to >= t.len) return;
    u32 at = i - t.to, filter = at / (t.channels * t.plane) * (t.channels * t.plane), place = at / t.channels % t.plane;
    p.out[i] = p.w[t.from + filter + at % t.channels * t.plane + place];
}
