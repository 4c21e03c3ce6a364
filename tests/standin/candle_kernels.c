// candle's own kernels, those that uploading, backward() and the plain tensor functions launch: f32, f64, u8, u32 and i64.
// Names, arguments and loops are those of candle-kernels 0.11 (affine.cu, binary.cu, fill.cu, unary.cu, reduce.cu). standin_sizes_: those of
// the arguments, of the one kernel that is part of a step, so that it may be late.
#include "standin.h"

#define ARGUMENT(index, type) (*(type *)params[index])
#define EXPORT __attribute__((visibility("default")))
#define EACH(i, count)                                                                                                           \
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count); i += (size_t)blockDim.x * gridDim.x)

// Where element i of a tensor lies. `info` is dims and then strides; null says contiguous.
static inline size_t strided(size_t i, size_t dims, const size_t *info, const size_t *strides) {
    if (!info) return i;
    size_t at = 0;
    for (size_t d = dims; d-- > 0; i /= info[d]) at += i % info[d] * strides[d];
    return at;
}

// inp may be null: the op is in place.
#define UNARY(name, type, expression)                                                                                            \
    EXPORT void standin_kernel_##name(void **params) {                                                                           \
        size_t count = ARGUMENT(0, size_t), dims = ARGUMENT(1, size_t);                                                          \
        const size_t *info = ARGUMENT(2, const size_t *);                                                                        \
        const type *inp = ARGUMENT(3, const type *);                                                                             \
        type *out = ARGUMENT(4, type *);                                                                                         \
        EACH(i, count) {                                                                                                         \
            type x = inp ? inp[strided(i, dims, info, info + dims)] : out[i];                                                    \
            out[i] = (expression);                                                                                               \
        }                                                                                                                        \
    }

#define BINARY_OUT(name, type, result, expression)                                                                               \
    EXPORT void standin_kernel_##name(void **params) {                                                                           \
        size_t count = ARGUMENT(0, size_t), dims = ARGUMENT(1, size_t);                                                          \
        const size_t *info = ARGUMENT(2, const size_t *);                                                                        \
        const type *lhs = ARGUMENT(3, const type *), *rhs = ARGUMENT(4, const type *);                                           \
        result *out = ARGUMENT(5, result *);                                                                                     \
        EACH(i, count) {                                                                                                         \
            type x = lhs[strided(i, dims, info, info + dims)], y = rhs[strided(i, dims, info, info + 2 * dims)];                 \
            out[i] = (expression);                                                                                               \
        }                                                                                                                        \
    }
#define BINARY(name, type, expression) BINARY_OUT(name, type, type, expression)

#define CAST(name, from, to)                                                                                                     \
    EXPORT void standin_kernel_##name(void **params) {                                                                           \
        size_t count = ARGUMENT(0, size_t), dims = ARGUMENT(1, size_t);                                                          \
        const size_t *info = ARGUMENT(2, const size_t *);                                                                        \
        const from *inp = ARGUMENT(3, const from *);                                                                             \
        to *out = ARGUMENT(4, to *);                                                                                             \
        EACH(i, count) out[i] = (to)inp[strided(i, dims, info, info + dims)];                                                    \
    }

#define ALL_TYPES(suffix, type)                                                                                                  \
    UNARY(ucopy_##suffix, type, x)                                                                                               \
    BINARY(badd_##suffix, type, (type)(x + y))                                                                                   \
    BINARY(bsub_##suffix, type, (type)(x - y))                                                                                   \
    BINARY(bmul_##suffix, type, (type)(x * y))                                                                                   \
    BINARY(bdiv_##suffix, type, (type)(x / y))                                                                                   \
    BINARY(bmaximum_##suffix, type, x > y ? x : y)                                                                               \
    BINARY(bminimum_##suffix, type, x < y ? x : y)                                                                               \
    BINARY_OUT(eq_##suffix, type, uint8_t, x == y)                                                                               \
    BINARY_OUT(ne_##suffix, type, uint8_t, x != y)                                                                               \
    BINARY_OUT(lt_##suffix, type, uint8_t, x < y)                                                                                \
    BINARY_OUT(gt_##suffix, type, uint8_t, x > y)                                                                                \
    EXPORT void standin_kernel_affine_##suffix(void **params) {                                                                  \
        size_t count = ARGUMENT(0, size_t), dims = ARGUMENT(1, size_t);                                                          \
        const size_t *info = ARGUMENT(2, const size_t *);                                                                        \
        const type *inp = ARGUMENT(3, const type *);                                                                             \
        type *out = ARGUMENT(4, type *), mul = ARGUMENT(5, type), add = ARGUMENT(6, type);                                       \
        EACH(i, count) out[i] = (type)((inp ? inp[strided(i, dims, info, info + dims)] : out[i]) * mul + add);                   \
    }                                                                                                                            \
    EXPORT void standin_kernel_const_set_##suffix(void **params) {                                                               \
        size_t count = ARGUMENT(0, size_t), dims = ARGUMENT(1, size_t);                                                          \
        const size_t *info = ARGUMENT(2, const size_t *);                                                                        \
        type value = ARGUMENT(3, type), *out = ARGUMENT(4, type *);                                                              \
        EACH(i, count) out[strided(i, dims, info, info + dims)] = value;                                                         \
    }                                                                                                                            \
    EXPORT const size_t standin_sizes_const_set_##suffix[] = {8, 8, 8, sizeof(type), 8, 0};                                      \
    EXPORT void standin_kernel_fill_##suffix(void **params) {                                                                    \
        type *out = ARGUMENT(0, type *), value = ARGUMENT(1, type);                                                              \
        size_t count = ARGUMENT(2, size_t);                                                                                      \
        EACH(i, count) out[i] = value;                                                                                           \
    }                                                                                                                            \
    EXPORT void standin_kernel_copy2d_##suffix(void **params) {                                                                  \
        const type *src = ARGUMENT(0, const type *);                                                                             \
        type *dst = ARGUMENT(1, type *);                                                                                         \
        uint32_t d1 = ARGUMENT(2, uint32_t), d2 = ARGUMENT(3, uint32_t);                                                         \
        uint32_t src_stride = ARGUMENT(4, uint32_t), dst_stride = ARGUMENT(5, uint32_t);                                         \
        uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;                                                                      \
        if (i >= d1 * d2) return;                                                                                                \
        dst[i / d2 * dst_stride + i % d2] = src[i / d2 * src_stride + i % d2];                                                   \
    }
ALL_TYPES(f32, float)
ALL_TYPES(f64, double)
ALL_TYPES(u8, uint8_t)
ALL_TYPES(u32, uint32_t)
ALL_TYPES(i64, int64_t)

#define REAL_TYPES(suffix, type)                                                                                                 \
    UNARY(uneg_##suffix, type, -x)                                                                                               \
    UNARY(urecip_##suffix, type, 1 / x)                                                                                          \
    UNARY(uexp_##suffix, type, (type)exp((double)x))                                                                             \
    UNARY(ulog_##suffix, type, (type)log((double)x))                                                                             \
    UNARY(usqr_##suffix, type, x *x)                                                                                             \
    UNARY(usqrt_##suffix, type, (type)sqrt((double)x))                                                                           \
    UNARY(uabs_##suffix, type, x < 0 ? -x : x)                                                                                   \
    UNARY(urelu_##suffix, type, x > 0 ? x : 0)                                                                                   \
    UNARY(utanh_##suffix, type, (type)tanh((double)x))
REAL_TYPES(f32, float)
REAL_TYPES(f64, double)

// Sums of f32 in f64 and in order: near candle's, which adds in a tree, not its bits. One thread of a block does it all.
#define REDUCE(name, type, wide, start, step)                                                                                    \
    EXPORT void standin_kernel_##name(void **params) {                                                                           \
        size_t each = ARGUMENT(1, size_t), dims = ARGUMENT(2, size_t);                                                           \
        const size_t *info = ARGUMENT(3, const size_t *);                                                                        \
        const type *src = ARGUMENT(4, const type *);                                                                             \
        if (threadIdx.x) return;                                                                                                 \
        wide sum = (start);                                                                                                      \
        for (size_t i = 0; i < each; i++) {                                                                                      \
            wide x = (wide)src[strided(blockIdx.x * each + i, dims, info, info + dims)];                                         \
            step;                                                                                                                \
        }                                                                                                                        \
        ARGUMENT(5, type *)[blockIdx.x] = (type)sum;                                                                             \
    }                                                                                                                            \
    /* few elements each: a thread for each sum */                                                                               \
    EXPORT void standin_kernel_small_##name(void **params) {                                                                     \
        size_t count = ARGUMENT(0, size_t), each = ARGUMENT(1, size_t), dims = ARGUMENT(2, size_t);                              \
        const size_t *info = ARGUMENT(3, const size_t *);                                                                        \
        const type *src = ARGUMENT(4, const type *);                                                                             \
        size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;                                                               \
        if (at >= count) return;                                                                                                 \
        wide sum = (start);                                                                                                      \
        for (size_t i = 0; i < each; i++) {                                                                                      \
            wide x = (wide)src[strided(at * each + i, dims, info, info + dims)];                                                 \
            step;                                                                                                                \
        }                                                                                                                        \
        ARGUMENT(5, type *)[at] = (type)sum;                                                                                     \
    }
#define SUM(suffix, type, wide)                                                                                                  \
    REDUCE(fast_sum_##suffix, type, wide, 0, sum += x)                                                                           \
    EXPORT void standin_kernel_fast_sum_small_##suffix(void **params) { standin_kernel_small_fast_sum_##suffix(params); }
SUM(f32, float, double)
SUM(f64, double, double)
SUM(u32, uint32_t, uint32_t)
REDUCE(fast_max_f32, float, double, -INFINITY, if (x > sum) sum = x)
REDUCE(fast_min_f32, float, double, INFINITY, if (x < sum) sum = x)

CAST(cast_u8_f32, uint8_t, float)
CAST(cast_u32_f32, uint32_t, float)
CAST(cast_f32_f32, float, float)
CAST(cast_f32_f64, float, double)
CAST(cast_f64_f32, double, float)
CAST(cast_f32_u8, float, uint8_t)
CAST(cast_f32_u32, float, uint32_t)
CAST(cast_u8_u32, uint8_t, uint32_t)
CAST(cast_u32_u8, uint32_t, uint8_t)
