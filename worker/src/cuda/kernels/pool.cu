/* Pools over square windows. Gradients are gathered, a thread an input, in the order of the windows: nothing is added at once. */
#include "kernel.h"

/* The greatest of each window: padding never wins, the first of equals wins, NaN wins over all. `at`: where it is in its plane. */
struct max_pool_forward {
    const float *x;
    float *y;
    u32 *at;
    u32 count, height, width, out_height, out_width, kernel, stride, padding;
};
KERNEL(max_pool_forward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 column = i % p.out_width, row = i / p.out_width % p.out_height;
    const float *plane = p.x + (unsigned long long)(i / (p.out_width * p.out_height)) * p.height * p.width;
    int top = (int)(row * p.stride) - (int)p.padding, left = (int)(column * p.stride) - (int)p.padding;
    int bottom = top + (int)p.kernel, right = left + (int)p.kernel;
    if (top < 0) top = 0;
    if (left < 0) left = 0;
    if (bottom > (int)p.height) bottom = (int)p.height;
    if (right > (int)p.width) right = (int)p.width;
    float best = -INFINITY;
    u32 winner = (u32)top * p.width + (u32)left;
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            float value = plane[y * (int)p.width + x];
            if (value > best || value != value) {
                best = value;
                winner = (u32)y * p.width + (u32)x;
            }
        }
    }
    p.y[i] = best;
    p.at[i] = winner;
}

/* The first and the last window, from 0, that has this row (or column) under it. */
DEVICE u32 first_over(u32 row, u32 kernel, u32 stride, u32 padding) {
    u32 reach = row + padding + 1;
    return reach > kernel ? (reach - kernel + stride - 1) / stride : 0;
}
DEVICE u32 behind_over(u32 row, u32 places, u32 stride, u32 padding) {
    u32 behind = (row + padding) / stride + 1;
    return behind < places ? behind : places;
}

struct max_pool_backward {
    const float *dy;
    const u32 *at;
    float *dx;
    u32 count, height, width, out_height, out_width, kernel, stride, padding;
};
KERNEL(max_pool_backward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 here = i % (p.height * p.width), column = here % p.width, row = here / p.width;
    u32 plane = i / (p.height * p.width) * p.out_height * p.out_width;
    float sum = 0.0f;
    for (u32 y = first_over(row, p.kernel, p.stride, p.padding); y < behind_over(row, p.out_height, p.stride, p.padding); y++) {
        for (u32 x = first_over(column, p.kernel, p.stride, p.padding);
             x < behind_over(column, p.out_width, p.stride, p.padding); x++) {
            u32 window = plane + y * p.out_width + x;
            if (p.at[window] == here) sum += p.dy[window];
        }
    }
    p.dx[i] = sum;
}

/* The mean of each window, padding counted as zeros. */
struct avg_pool_forward {
    const float *x;
    float *y;
    u32 count, height, width, out_height, out_width, kernel, stride, padding;
};
KERNEL(avg_pool_forward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 column = i % p.out_width, row = i / p.out_width % p.out_height;
    const float *plane = p.x + (unsigned long long)(i / (p.out_width * p.out_height)) * p.height * p.width;
    int top = (int)(row * p.stride) - (int)p.padding, left = (int)(column * p.stride) - (int)p.padding;
    float sum = 0.0f;
    for (int y = top; y < top + (int)p.kernel; y++) {
        for (int x = left; x < left + (int)p.kernel; x++) {
            if (y >= 0 && y < (int)p.height && x >= 0 && x < (int)p.width) sum += plane[y * (int)p.width + x];
        }
    }
    p.y[i] = sum / (float)(p.kernel * p.kernel);
}

struct avg_pool_backward {
    const float *dy;
    float *dx;
    u32 count, height, width, out_height, out_width, kernel, stride, padding;
};
KERNEL(avg_pool_backward) {
    u32 i = HERE();
    if (i >= p.count) return;
    u32 here = i % (p.height * p.width), column = here % p.width, row = here / p.width;
    u32 plane = i / (p.height * p.width) * p.out_height * p.out_width;
    float sum = 0.0f;
    for (u32 y = first_over(row, p.kernel, p.stride, p.padding); y < behind_over(row, p.out_height, p.stride, p.padding); y++) {
        for (u32 x = first_over(column, p.kernel, p.stride, p.padding);
             x < behind_over(column, p.out_width, p.stride, p.padding); x++) {
            sum += p.dy[plane + y * p.out_width + x] / (float)(p.kernel * p.kernel);
        }
    }
    p.dx[i] = sum;
}
