/* Which windows lie over a place, and what they send back to it. */
#pragma once
#include "kernel.h"

/* Value `i` of images: its row and column, its channel of those beside it, and which of the planes, or of the images, it is in. */
struct spot {
    u32 row, column, beside, image;
};
DEVICE struct spot spot_of(u32 i, u32 height, u32 width, u32 beside) {
    /* a remainder by what was divided: a division is 20 instructions, and two would be two */
    u32 pixel = beside == 1 ? i : i / beside, line = pixel / width, image = line / height;
    struct spot spot = {line - image * height, pixel - line * width, i - pixel * beside, image};
    return spot;
}

/* The value at another row and column there. */
DEVICE u32 value_at(const struct spot *spot, u32 row, u32 column, u32 height, u32 width, u32 beside) {
    return ((spot->image * height + row) * width + column) * beside + spot->beside;
}

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
    struct spot spot = spot_of(i, w->height, w->width, w->beside);
    u32 row = spot.row, column = spot.column, here = row * w->width + column;
    float sum = 0.0f;
    for (u32 y = first_over(row, w->kernel, w->stride, w->padding); y < behind_over(row, w->out_height, w->stride, w->padding); y++) {
        for (u32 x = first_over(column, w->kernel, w->stride, w->padding);
             x < behind_over(column, w->out_width, w->stride, w->padding); x++) {
            u32 window = value_at(&spot, y, x, w->out_height, w->out_width, w->beside);
            if (at[window] == here) {
                sum += dy[window];
                *winner = window;
            }
        }
    }
    return sum;
}
