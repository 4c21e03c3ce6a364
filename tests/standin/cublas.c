// cuBLAS: f32 products, column-major as in BLAS. Sums in f64, so that a test's tolerance is about the caller and not about here.
#include "host.h"

#include <string.h>

enum {
    SUCCESS = 0,
    NOT_INITIALIZED = 1,
    ALLOC_FAILED = 3,
    INVALID_VALUE = 7,
    EXECUTION_FAILED = 13,
    NOT_SUPPORTED = 15,
    HANDLE = 0x63756264
};
struct handle {
    uint32_t magic;
    struct stream *stream;
    unsigned math;
    int pointers;
    void *workspace;
    size_t bytes;
};

static bool live(const struct handle *handle) { return handle && handle->magic == HANDLE; }

int cublasCreate_v2(struct handle **out) {
    if (!out) return INVALID_VALUE;
    // The library asks the runtime, which needs a device.
    if (standin_devices() == 0) return NOT_INITIALIZED;
    *out = calloc(1, sizeof **out);
    if (!*out) return ALLOC_FAILED;
    (*out)->magic = HANDLE;
    return SUCCESS;
}
int cublasDestroy_v2(struct handle *handle) {
    if (!live(handle)) return NOT_INITIALIZED;
    handle->magic = DEAD;
    free(handle);
    return SUCCESS;
}
int cublasGetVersion_v2(struct handle *handle, int *version) {
    (void)handle;
    return version ? (*version = 130000, SUCCESS) : INVALID_VALUE;
}
int cublasSetStream_v2(struct handle *handle, struct stream *stream) {
    if (!live(handle)) return NOT_INITIALIZED;
    if (!standin_stream_ok(stream)) return INVALID_VALUE;
    handle->stream = stream;
    // As cuBLAS documents: a new stream brings back its own workspace.
    handle->workspace = NULL;
    handle->bytes = 0;
    return SUCCESS;
}
int cublasGetStream_v2(struct handle *handle, struct stream **stream) {
    if (!live(handle)) return NOT_INITIALIZED;
    return stream ? (*stream = handle->stream, SUCCESS) : INVALID_VALUE;
}
int cublasSetWorkspace_v2(struct handle *handle, void *workspace, size_t bytes) {
    if (!live(handle)) return NOT_INITIALIZED;
    // 256 bytes of alignment are asked for; null or 0 means its own.
    if ((uintptr_t)workspace % 256 || (workspace && bytes && !standin_on_device(workspace, bytes))) return INVALID_VALUE;
    handle->workspace = bytes ? workspace : NULL;
    handle->bytes = workspace ? bytes : 0;
    return SUCCESS;
}
int cublasSetMathMode(struct handle *handle, unsigned mode) {
    if (!live(handle)) return NOT_INITIALIZED;
    if ((mode & 15) > 3) return INVALID_VALUE;
    handle->math = mode;
    return SUCCESS;
}
int cublasGetMathMode(struct handle *handle, unsigned *mode) {
    if (!live(handle)) return NOT_INITIALIZED;
    return mode ? (*mode = handle->math, SUCCESS) : INVALID_VALUE;
}
int cublasSetPointerMode_v2(struct handle *handle, int mode) {
    if (!live(handle)) return NOT_INITIALIZED;
    if (mode != 0 && mode != 1) return INVALID_VALUE;
    handle->pointers = mode;
    return SUCCESS;
}
int cublasGetPointerMode_v2(struct handle *handle, int *mode) {
    if (!live(handle)) return NOT_INITIALIZED;
    return mode ? (*mode = handle->pointers, SUCCESS) : INVALID_VALUE;
}
int cublasSetAtomicsMode(struct handle *handle, int mode) {
    (void)mode;
    return live(handle) ? SUCCESS : NOT_INITIALIZED;
}

// alpha and beta lie where the pointer mode says.
static bool scalar(const struct handle *handle, const float *value) {
    return value && standin_on_device(value, sizeof *value) == (handle->pointers == 1);
}

// A matrix of `columns` columns, `rows` of each `leading` are its own.
static bool matrix(const char *name, const float *at, size_t rows, size_t columns, size_t leading) {
    if (rows == 0 || columns == 0) return true;
    bool inside = standin_on_device(at, ((columns - 1) * leading + rows) * sizeof *at);
    if (!inside)
        standin_say("cuBLAS: %s, %zu x %zu with leading dimension %zu at %p, is not within one allocation", name, rows, columns,
                    leading, (void *)at);
    return inside;
}

// The workspace is anybody's guess after a product: NaN.
static void spoil(void *workspace, size_t bytes) {
    if (workspace && standin_on_device(workspace, bytes)) memset(workspace, 0xff, bytes);
}

static int at_least_one(int x) { return x > 1 ? x : 1; }

// What a product needs when it runs, which may be later.
struct gemm {
    bool transposed_a, transposed_b;
    int m, n, k, lda, ldb, ldc, batches;
    float alpha, beta;
    const float *A, *B;
    float *C;
    long long stride_a, stride_b, stride_c;
    void *workspace;
    size_t bytes;
};

static int run_gemm(void *arguments) {
    if (standin_rests()) return 0;
    const struct gemm *it = arguments;
    int m = it->m, n = it->n, k = it->k, rows_a = it->transposed_a ? k : m, rows_b = it->transposed_b ? n : k;
    double *column = malloc((size_t)m * sizeof *column);
    if (!column) return ALLOC_FAILED;
    int status = SUCCESS;
    standin_lock();
    standin_count("gemms", (uint64_t)it->batches);
    for (int batch = 0; batch < it->batches && status == SUCCESS; batch++) {
        const float *a = it->A + batch * it->stride_a, *b = it->B + batch * it->stride_b;
        float *c = it->C + batch * it->stride_c;
        if (!matrix("A", a, (size_t)rows_a, (size_t)(it->transposed_a ? m : k), (size_t)it->lda) ||
            !matrix("B", b, (size_t)rows_b, (size_t)(it->transposed_b ? k : n), (size_t)it->ldb) ||
            !matrix("C", c, (size_t)m, (size_t)n, (size_t)it->ldc)) {
            status = EXECUTION_FAILED;
            break;
        }
        spoil(it->workspace, it->bytes);
        for (int j = 0; j < n; j++) {
            const float *start = it->transposed_b ? b + j : b + (size_t)j * it->ldb;
            size_t step = it->transposed_b ? (size_t)it->ldb : 1;
            // Both ways walk along A's columns, which lie in a row, and give the same sums.
            if (it->transposed_a) {
                for (int i = 0; i < m; i++) {
                    double sum = 0;
                    for (int l = 0; l < k; l++) sum += (double)a[l + (size_t)i * it->lda] * start[(size_t)l * step];
                    column[i] = sum;
                }
            } else {
                memset(column, 0, (size_t)m * sizeof *column);
                for (int l = 0; l < k; l++) {
                    double factor = start[(size_t)l * step];
                    for (int i = 0; i < m; i++) column[i] += a[i + (size_t)l * it->lda] * factor;
                }
            }
            // beta 0 reads nothing of C, which may be NaN.
            for (int i = 0; i < m; i++) {
                float *out = &c[i + (size_t)j * it->ldc];
                *out = (float)(it->alpha * column[i] + (it->beta == 0.0f ? 0.0 : (double)it->beta * *out));
            }
        }
    }
    standin_unlock();
    free(column);
    return status;
}

int cublasSgemmStridedBatched(struct handle *handle, int op_a, int op_b, int m, int n, int k, const float *alpha, const float *A,
                              int lda, long long stride_a, const float *B, int ldb, long long stride_b, const float *beta,
                              float *C, int ldc, long long stride_c, int batches) {
    if (!live(handle)) return NOT_INITIALIZED;
    bool transposed_a = op_a != 0, transposed_b = op_b != 0;
    if (op_a < 0 || op_a > 2 || op_b < 0 || op_b > 2 || m < 0 || n < 0 || k < 0 || batches < 0) return INVALID_VALUE;
    int rows_a = transposed_a ? k : m, rows_b = transposed_b ? n : k;
    if (lda < at_least_one(rows_a) || ldb < at_least_one(rows_b) || ldc < at_least_one(m)) return INVALID_VALUE;
    if (!scalar(handle, alpha) || !scalar(handle, beta)) return INVALID_VALUE;
    if (m == 0 || n == 0 || batches == 0) return SUCCESS;
    if (standin_capturing(handle->stream) && !handle->workspace) {
        standin_say("cuBLAS: a product is captured without a workspace: it would allocate one");
        standin_uncaptured(handle->stream, "cuBLAS without a workspace");
        return ALLOC_FAILED;
    }
    struct gemm it = {transposed_a, transposed_b, m,        n,        k,        lda, ldb, ldc, batches, *alpha, *beta, A, B, C,
                      stride_a,     stride_b,     stride_c, handle->workspace, handle->bytes};
    int status = standin_order(handle->stream, "products", run_gemm, &it, sizeof it);
    return status == REFUSED ? EXECUTION_FAILED : status;
}

int cublasSgemm_v2(struct handle *handle, int op_a, int op_b, int m, int n, int k, const float *alpha, const float *A, int lda,
                   const float *B, int ldb, const float *beta, float *C, int ldc) {
    return cublasSgemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, A, lda, 0, B, ldb, 0, beta, C, ldc, 0, 1);
}

// candle's matmul calls the Ex functions; f32 (type 0) is all there is here, whatever the precision asked for.
int cublasGemmStridedBatchedEx(struct handle *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *A,
                               int type_a, int lda, long long stride_a, const void *B, int type_b, int ldb, long long stride_b,
                               const void *beta, void *C, int type_c, int ldc, long long stride_c, int batches, int compute,
                               int algorithm) {
    (void)compute, (void)algorithm;
    if (type_a || type_b || type_c) return NOT_SUPPORTED;
    return cublasSgemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, A, lda, stride_a, B, ldb, stride_b, beta, C, ldc,
                                     stride_c, batches);
}
int cublasGemmEx(struct handle *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *A, int type_a,
                 int lda, const void *B, int type_b, int ldb, const void *beta, void *C, int type_c, int ldc, int compute,
                 int algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, A, type_a, lda, 0, B, type_b, ldb, 0, beta, C, type_c,
                                      ldc, 0, 1, compute, algorithm);
}

// The two below are products too; vectors have a step, and a negative one is not taken.
int cublasSgemv_v2(struct handle *handle, int op, int m, int n, const float *alpha, const float *A, int lda, const float *x,
                   int step_x, const float *beta, float *y, int step_y) {
    if (!live(handle)) return NOT_INITIALIZED;
    if (op < 0 || op > 2 || m < 0 || n < 0 || lda < at_least_one(m) || step_x < 1 || step_y < 1) return INVALID_VALUE;
    if (!scalar(handle, alpha) || !scalar(handle, beta)) return INVALID_VALUE;
    int length = op ? n : m, inner = op ? m : n;
    if (m == 0 || n == 0) return SUCCESS;
    if (!matrix("A", A, (size_t)m, (size_t)n, (size_t)lda) || !matrix("x", x, 1, (size_t)inner, (size_t)step_x) ||
        !matrix("y", y, 1, (size_t)length, (size_t)step_y))
        return EXECUTION_FAILED;
    if (standin_uncaptured(handle->stream, "gemvs")) return NOT_SUPPORTED;
    standin_lock();
    standin_count("gemvs", 1);
    spoil(handle->workspace, handle->bytes);
    for (int i = 0; i < length; i++) {
        double sum = 0;
        for (int l = 0; l < inner; l++)
            sum += (double)(op ? A[l + (size_t)i * lda] : A[i + (size_t)l * lda]) * x[(size_t)l * step_x];
        float *out = &y[(size_t)i * step_y];
        *out = (float)(*alpha * sum + (*beta == 0.0f ? 0.0 : (double)*beta * *out));
    }
    standin_unlock();
    return SUCCESS;
}

int cublasSger_v2(struct handle *handle, int m, int n, const float *alpha, const float *x, int step_x, const float *y, int step_y,
                  float *A, int lda) {
    if (!live(handle)) return NOT_INITIALIZED;
    if (m < 0 || n < 0 || step_x < 1 || step_y < 1 || lda < at_least_one(m) || !scalar(handle, alpha)) return INVALID_VALUE;
    if (m == 0 || n == 0) return SUCCESS;
    if (!matrix("A", A, (size_t)m, (size_t)n, (size_t)lda) || !matrix("x", x, 1, (size_t)m, (size_t)step_x) ||
        !matrix("y", y, 1, (size_t)n, (size_t)step_y))
        return EXECUTION_FAILED;
    if (standin_uncaptured(handle->stream, "gers")) return NOT_SUPPORTED;
    standin_lock();
    standin_count("gers", 1);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++)
            A[i + (size_t)j * lda] += (float)((double)*alpha * x[(size_t)i * step_x] * y[(size_t)j * step_y]);
    standin_unlock();
    return SUCCESS;
}

const char *cublasGetStatusName(int status) {
    switch (status) {
    case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}
const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }
