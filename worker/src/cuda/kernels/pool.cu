/* Pools over square windows. Gradients are gathered, a thread an input, in the order of the windows: nothing is added at once. */
#include "pool.h"

/* The greatest of each window, after a bias of its channel (may be null) and the activation: padding never wins, the first of equals
 * wins, NaN wins over all. `at`: where it is in its plane. */
struct max_pool_forward {
    const float *x, *bias;
    float *y;
    u32 *at;
    u32 count, channels, act;
    float slope;
    struct window w;
};
KERNEL(max_pool_forward) {
    u32 i = HERE();
    if (i >= p.count) return;
    struct spot spot = spot_of(i, p.w.out_height, p.w.out_width, p.w.beside);
    int top = (int)(spot.row * p.w.stride) - (int)p.w.padding, left = (int)(spot.column * p.w.stride) - (int)p.w.padding;
    int bottom = top + (int)p.w.kernel, right = left + (int)p.w.kernel;
    if (top < 0) top = 0;
    if (left < 0) left = 0;
    if (bottom > (int)p.w.height) bottom = (int)p.w.height;
    if (right > (int)p.w.width) right = (int)p.w.width;
    u32 channel = p.w.beside == 1 ? spot.image % p.channels : spot.beside;
    float best = -INFINITY;
    u32 winner = (u32)top * p.w.width + (u32)left;
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            float value = p.x[value_at(&spot, (u32)y, (u32)x, p.w.height, p.w.width, p.w.beside)];
            if (p.bias) value += p.bias[channel];
            value = activated(p.act, p.slope, value);
            if (value > best || value != value) {
                best = value;
                winner = (u32)y * p.w.width + (u32)x;
            }
        }
    }
    p.y[i] = best;
    p.at[i] = winner;
}

struct max_pool_backward {
    const float *dy;
    const u32 *at;
    float *dx;
    u32 count;
    struct window w;
};
KERNEL(max_pool_backward) {
    u32 i = HERE(), winner = 0;
    if (i < p.count) p.dx[i] = from_windows(&p.w, p.at, p.dy, i, &winner);
}

/* The mean of each window, padding counted as zeros. */
struct avg_pool_forward {
    const float *x;
    float *y;
    u32 count;
    struct window w;
};
KERNEL(avg_pool_forward) {
    u32 i = HERE();
    if (i >= p.count) return;
    struct spot spot = spot_of(i, p.w.out_height, p.w.out_width, p.w.beside);
    int top = (int)(spot.row * p.w.stride) - (int)p.w.padding, left = (int)(spot.column * p.w.stride) - (int)p.w.padding;
    float sum = 0.0f;
    for (int y = top; y < top + (int)p.w.kernel; y++) {
        for (int x = left; x < left + (int)p.w.kernel; x++) {
            if (y < 0 || y >= (int)p.w.height || x < 0 || x >= (int)p.w.width) continue;
            sum += p.x[value_at(&spot, (u32)y, (u32)x, p.w.height, p.w.width, p.w.beside)];
        }
    }
    p.y[i] = sum / (float)(p.w.kernel * p.w.kernel);
}

struct avg_pool_backward {
    const float *dy;
    float *dx;
    u32 count;
    struct window w;
};
KERNEL(avg_pool_backward) {
    u32 i = HERE();
    if (i >= p.count) return;
    struct spot spot = spot_of(i, p.w.height, p.w.width, p.w.beside);
    u32 row = spot.row, column = spot.column;
    float sum = 0.0f;
    for (u32 y = first_over(row, p.w.kernel, p.w.stride, p.w.padding); y < behind_over(row, p.w.out_height, p.w.stride, p.w.padding); y++) {
        for (u32 x = first_over(column, p.w.kernel, p.w.stride, p.w.padding);
             x < behind_over(column, p.w.out_width, p.w.stride, p.w.padding); x++) {
            sum += p.dy[value_at(&spot, y, x, p.w.out_height, p.w.out_width, p.w.beside)] / (float)(p.w.kernel * p.w.kernel);
        }
    }
    p.dx[i] = sum;
}
