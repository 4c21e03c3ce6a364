/* Weights of convolutions whose images have their channels side by side: theirs lie so, too, for the library (filters, places, channels). */
#pragma once
#include "kernel.h"

/* One tensor of `len` values: the first of them among the weights and among the transposed, and its shape behind the filters. Tables are in the
 * order of both. */
struct transposed {
    u32 from, to, len, channels, plane;
};

/* The last tensor of the table that does not begin behind value `i`: of the weights, or of the transposed. */
DEVICE struct transposed tensor_at(const struct transposed *table, u32 tensors, u32 i, bool of_transposed) {
    u32 tensor = 0, beyond = tensors;
    while (beyond - tensor > 1) {
        u32 middle = tensor + (beyond - tensor) / 2;
        if ((of_transposed ? table[middle].to : table[middle].from) <= i) tensor = middle;
        else beyond = middle;
    }
    return table[tensor];
}

/* Where value `i` of the weights lies in what has the weights' places, but transposed tensors. */
DEVICE u32 transposed_place(const struct transposed *table, u32 tensors, u32 i) {
    struct transposed t = tensor_at(table, tensors, i, false);
    if (i < t.from || i - t.from >= t.len) return i;
    u32 at = i - t.from, filter = at / (t.channels * t.plane) * (t.channels * t.plane), channel = at / t.plane % t.channels;
    return t.from + filter + at % t.plane * t.channels + channel;
}
