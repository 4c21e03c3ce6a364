/* Training images from bytes: what worker/src/dataset/augment does, by the same roundings, so that the same bytes come out. A block an
 * image; the draws come from the host. */
#include "kernel.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, IMAGE = 3 * PLANE };
enum { MIRRORED = 1, UPSIDE_DOWN = 2, AFFINE = 4 };
enum { BRIGHTNESS = 0, CONTRAST = 1, SATURATION = 2, HUE = 3 };

struct draw {
    int top, left;
    u32 flags, adjustments;
    float across[3], down[3];
    u32 kinds[4];
    float factors[4];
};

/* Cut to 0 to 255, then the fraction cut off. */
DEVICE u8 byte(float value) {
    return (u8)(value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value);
}

DEVICE u8 grey(u8 r, u8 g, u8 b) {
    return byte(0.2989f * (float)r + 0.587f * (float)g + 0.114f * (float)b);
}

/* The number of the nearest pixel along one axis, which may not exist; ties to even. */
DEVICE float nearest(const float *line, float x, float y) {
    float at = x * line[0] + y * line[1] + line[2];
    return ((at + 1.0f) * (SIDE * 0.5f) - 0.5f + 12582912.0f) - 12582912.0f;
}

DEVICE float wrapped(float x) {
    return x >= 1.0f ? x - 1.0f : x < 0.0f ? x + 1.0f : x;
}

DEVICE float unit(float x) {
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

DEVICE float colour(float since, float value, float falling, float least, float rising) {
    return since < 1.0f ? value : since < 2.0f ? falling : since < 4.0f ? least : since < 5.0f ? rising : value;
}

DEVICE void turn(u8 *pixel, float by) {
    float r = (float)pixel[0] / 255.0f, g = (float)pixel[PLANE] / 255.0f, b = (float)pixel[2 * PLANE] / 255.0f;
    float value = r > g ? r : g, low = r < g ? r : g;
    if (b > value) value = b;
    if (b < low) low = b;
    float range = value - low;
    float saturation = range / (range == 0.0f ? 1.0f : value), divisor = range == 0.0f ? 1.0f : range;
    float start, before, after;
    if (value == r) { start = 0.0f; before = b; after = g; }
    else if (value == g) { start = 2.0f; before = r; after = b; }
    else { start = 4.0f; before = g; after = r; }
    float sixths = start + (value - before) / divisor - (value - after) / divisor;
    float hue = wrapped(wrapped(sixths / 6.0f + 1.0f) + by);
    sixths = hue * 6.0f;
    if (sixths >= 6.0f) sixths = 0.0f;
    float sector = 0.0f;
    for (int above = 1; above < 6; above++) sector += sixths >= (float)above ? 1.0f : 0.0f;
    float part = sixths - sector;
    float least = unit(value * (1.0f - saturation)), falling = unit(value * (1.0f - saturation * part));
    float rising = unit(value * (1.0f - saturation * (1.0f - part)));
    float green = sector >= 2.0f ? sector - 2.0f : sector - 2.0f + 6.0f;
    float blue = sector >= 4.0f ? sector - 4.0f : sector - 4.0f + 6.0f;
    pixel[0] = byte(colour(sector, value, falling, least, rising) * 255.999f);
    pixel[PLANE] = byte(colour(green, value, falling, least, rising) * 255.999f);
    pixel[2 * PLANE] = byte(colour(blue, value, falling, least, rising) * 255.999f);
}

/* `draws` may be null: images as they are. Then divided by 255 and, unless `plain`, normalised. */
struct images {
    const u8 *pixels;
    const u32 *examples;
    const struct draw *draws;
    float *out;
    float mean[3], deviation[3];
    u32 plain;
};
typedef char places_are_a_threads_in_all_planes[PLANE % BLOCK == 0 ? 1 : -1]; /* or more of them must wait for each other */
KERNEL(images) {
    SHARED u8 image[IMAGE];
    SHARED u8 other[IMAGE];
    SHARED float room[BLOCK];
    const u8 *pixels = p.pixels + (unsigned long long)p.examples[blockIdx.x] * IMAGE;
    const struct draw *draw = p.draws ? p.draws + blockIdx.x : 0;
    for (u32 i = threadIdx.x; i < IMAGE; i += BLOCK) {
        u32 plane = i / PLANE, y = i % PLANE / SIDE, x = i % SIDE;
        int row = (int)y, column = (int)x;
        if (draw) {
            if (draw->flags & UPSIDE_DOWN) row = SIDE - 1 - row;
            if (draw->flags & MIRRORED) column = SIDE - 1 - column;
            row += draw->top;
            column += draw->left;
        }
        int inside = row >= 0 && row < SIDE && column >= 0 && column < SIDE;
        image[i] = inside ? pixels[plane * PLANE + (u32)(row * SIDE + column)] : 0;
    }
    /* From here on a place in all three planes is one thread's, so that threads wait for each other only where an image is turned. */
    if (draw && draw->flags & AFFINE) {
        BARRIER();
        for (u32 i = threadIdx.x; i < PLANE; i += BLOCK) {
            float x = 0.5f - SIDE * 0.5f + (float)(i % SIDE), y = 0.5f - SIDE * 0.5f + (float)(i / SIDE);
            float column = nearest(draw->across, x, y), row = nearest(draw->down, x, y);
            int inside = row >= 0.0f && row < SIDE && column >= 0.0f && column < SIDE;
            for (u32 plane = 0; plane < 3; plane++) {
                other[plane * PLANE + i] = inside ? image[plane * PLANE + (u32)row * SIDE + (u32)column] : 0;
            }
        }
        BARRIER();
        for (u32 i = threadIdx.x; i < IMAGE; i += BLOCK) image[i] = other[i];
    }
    for (u32 number = 0; draw && number < draw->adjustments; number++) {
        u32 kind = draw->kinds[number];
        float factor = draw->factors[number], rest = (float)(1.0 - (double)factor);
        if (kind == CONTRAST) {
            /* whole numbers below 2^24: exact in any order */
            float sum = 0.0f;
            for (u32 i = threadIdx.x; i < PLANE; i += BLOCK) {
                sum += (float)grey(image[i], image[PLANE + i], image[2 * PLANE + i]);
            }
            rest = rest * (block_sum(sum, room, 1) / (float)PLANE);
        }
        for (u32 i = threadIdx.x; i < PLANE; i += BLOCK) {
            u8 *pixel = image + i;
            if (kind == HUE) {
                turn(pixel, factor);
                continue;
            }
            float more = kind == CONTRAST ? rest : rest * (float)grey(pixel[0], pixel[PLANE], pixel[2 * PLANE]);
            for (u32 plane = 0; plane < IMAGE; plane += PLANE) {
                float value = factor * (float)pixel[plane];
                pixel[plane] = byte(kind == BRIGHTNESS ? value : value + more);
            }
        }
    }
    for (u32 i = threadIdx.x; i < IMAGE; i += BLOCK) {
        float value = (float)image[i] / 255.0f;
        u32 plane = i / PLANE;
        if (!p.plain) value = (value - p.mean[plane]) / p.deviation[plane];
        p.out[(unsigned long long)blockIdx.x * IMAGE + i] = value;
    }
}
