/* fp32 matrix products: Accelerate on Apple, the vendored OpenBLAS elsewhere, cut over our own thread pool. Row-major.
 */
#ifndef ANETRAIN_BLAS_H
#define ANETRAIN_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* c[m,n] = alpha * op(a)[m,k] op(b)[k,n] + beta * c; lda, ldb, ldc are row lengths of the stored matrices. */
void anecpu_sgemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                  size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

/* `batch` products; a_step, b_step, c_step are the distances, in floats, from one matrix to the next (0: shared). */
void anecpu_sgemm_batched(size_t batch, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                          const float *a, size_t lda, size_t a_step, const float *b, size_t ldb, size_t b_step,
                          float beta, float *c, size_t ldc, size_t c_step);

/* The same in the calling thread only (on Apple: Accelerate decides): for use inside anecpu_parallel_for. */
void anecpu_sgemm_serial(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                         size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

/* out[rows] = w[rows, columns] x[columns]; w_stride is the row length of the stored matrix. */
void anecpu_sgemv(const float *w, size_t w_stride, const float *x, float *out, size_t rows, size_t columns);

const char *anecpu_blas_name(void); /* "OpenBLAS 0.3.34 SkylakeX", "Accelerate" */

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
