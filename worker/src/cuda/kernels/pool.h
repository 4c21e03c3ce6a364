/* Which windows lie over a place, and what they send back to it. */
#pragma once
#include "kernel.h"

/* The first window, counted from 0, that has this row (or column) under it, and the one behind the last. */
DEVICE u32 first_over(u32 row, u32 kernel, u32 stride, u32 padding) {
    u32 reach = row + padding + 1;
    return reach > kernel ? (reach - kernel + stride - 1) / stride : 0;
}
DEVICE u32 behind_over(u32 row, u32 places, u32 stride, u32 padding) {
    u32 behind = (row + padding) / stride + 1;
    return behind < places ? behind : places;
}

/* The gradient of value `i`: that of every window whose greatest it is, in the order of the windows. `winner` becomes one of those, if
 * there is one. */
DEVICE float from_windows(const struct window *w, const u32 *at, const float *dy, u32 i, u32 *winner) {
    u32 here = i % (w->height * w->width), column = here % w->width, row = here / w->width;
    u32 plane = i / (w->height * w->width) * w->out_height * w->out_width;
    float sum = 0.0f;
    for (u32 y = first_over(row, w->kernel, w->stride, w->padding); y < behind_over(row, w->out_height, w->stride, w->padding); y++) {
        for (u32 x = first_over(column, w->kernel, w->stride, w->padding);
             x < behind_over(column, w->out_width, w->stride, w->padding); x++) {
            u32 window = plane + y * w->out_width + x;
            if (at[window] == here) {
                sum += dy[window];
                *winner = window;
            }
        }
    }
    return sum;
}

/* Where windows do not overlap: the one that has value `i` under it, and `here`, where that is in its plane. Without one a window that another
 * place wins, if any. */
DEVICE u32 only_window(const struct window *w, u32 i, u32 *here) {
    u32 column, row, plane = i / (w->height * w->width) * w->out_height * w->out_width;
    *here = i % (w->height * w->width);
    column = *here % w->width, row = *here / w->width;
    u32 y = first_over(row, w->kernel, w->stride, w->padding), x = first_over(column, w->kernel, w->stride, w->padding);
    bool under = y < behind_over(row, w->out_height, w->stride, w->padding) && x < behind_over(column, w->out_width, w->stride, w->padding);
    return under ? plane + y * w->out_width + x : plane;
}
