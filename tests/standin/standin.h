// The kernels' side of the stand-in: what CUDA's C has and C lacks. worker/src/cuda/kernels/ includes it when nvcc is not
// the compiler. A kernel is compiled as C; each thread of a block is a fibre, and one block runs at a time.
#ifndef STANDIN_H
#define STANDIN_H

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// KERNEL(name) { ... p.field ... } after `struct name { ... };`. standin_bytes_ lets cuFuncGetParamInfo answer.
#define KERNEL(name)                                                                                                             \
    static inline void standin_body_##name(struct name p);                                                                       \
    __attribute__((visibility("default"))) const size_t standin_bytes_##name = sizeof(struct name);                              \
    __attribute__((visibility("default"), no_sanitize("thread"))) void standin_kernel_##name(void **params) {                    \
        standin_body_##name(*(const struct name *)params[0]);                                                                    \
    }                                                                                                                            \
    static inline void standin_body_##name(struct name p)

#define DEVICE static inline
// One section for all of them: it is filled with NaN before a block, as nobody promises that shared memory is zero.
#define SHARED static __attribute__((section("standin_shared")))
#define BARRIER() standin_barrier(__LINE__)
#define __syncthreads() standin_barrier(__LINE__)
__attribute__((visibility("hidden"))) void standin_barrier(int line);

// Plain globals: launches hold one lock, and a fibre gets them set before it goes on.
struct standin_index {
    unsigned x, y, z;
};
extern __attribute__((visibility("hidden"))) struct standin_index threadIdx, blockIdx, blockDim, gridDim;
enum { warpSize = 32 };

#define __restrict__ __restrict
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __ldg(pointer) (*(pointer))

static inline float __int_as_float(int x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
static inline int __float_as_int(float x) {
    int y;
    memcpy(&y, &x, 4);
    return y;
}
static inline float __uint_as_float(unsigned x) {
    float y;
    memcpy(&y, &x, 4);
    return y;
}
static inline unsigned __float_as_uint(float x) {
    unsigned y;
    memcpy(&y, &x, 4);
    return y;
}
static inline double __longlong_as_double(long long x) {
    double y;
    memcpy(&y, &x, 8);
    return y;
}
static inline long long __double_as_longlong(double x) {
    long long y;
    memcpy(&y, &x, 8);
    return y;
}

static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
static inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

// -ffp-contract=off: each of these rounds once and to nearest, as their names say.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline float __double2float_rn(double a) { return (float)a; }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(unsigned a) { return (float)a; }
static inline int __float2int_rn(float a) { return (int)rintf(a); }
static inline int __float2int_rz(float a) { return (int)a; }
static inline int __float2int_rd(float a) { return (int)floorf(a); }

// CUDA's own are approximations: these are near them, not their bits.
static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
#define __expf(x) expf(x) // macros: glibc has declared functions of these names
#define __logf(x) logf(x)
#define __powf(x, y) powf(x, y)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// C++ overloads these for all numbers.
#define min(a, b)                                                                                                                \
    ({                                                                                                                           \
        __typeof__((a) + (b)) standin_a = (a), standin_b = (b);                                                                  \
        standin_a < standin_b ? standin_a : standin_b;                                                                           \
    })
#define max(a, b)                                                                                                                \
    ({                                                                                                                           \
        __typeof__((a) + (b)) standin_a = (a), standin_b = (b);                                                                  \
        standin_a > standin_b ? standin_a : standin_b;                                                                           \
    })

// Nothing runs beside a thread, so a plain update is atomic. The order is that of the threads: a GPU promises none.
#define atomicAdd(at, value)                                                                                                     \
    ({                                                                                                                           \
        __typeof__(*(at)) *standin_at = (at), standin_old = *standin_at;                                                         \
        *standin_at = standin_old + (value);                                                                                     \
        standin_old;                                                                                                             \
    })
#define atomicMax(at, value)                                                                                                     \
    ({                                                                                                                           \
        __typeof__(*(at)) *standin_at = (at), standin_old = *standin_at, standin_new = (value);                                  \
        if (standin_new > standin_old) *standin_at = standin_new;                                                                \
        standin_old;                                                                                                             \
    })

typedef struct {
    float x, y;
} __attribute__((aligned(8))) float2;
typedef struct {
    float x, y, z, w;
} __attribute__((aligned(16))) float4;
typedef struct {
    int x, y;
} __attribute__((aligned(8))) int2;
typedef struct {
    int x, y, z, w;
} __attribute__((aligned(16))) int4;
typedef struct {
    unsigned x, y;
} __attribute__((aligned(8))) uint2;
typedef struct {
    unsigned x, y, z, w;
} __attribute__((aligned(16))) uint4;
static inline float2 make_float2(float x, float y) { return (float2){x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return (float4){x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return (uint4){x, y, z, w}; }

#endif
