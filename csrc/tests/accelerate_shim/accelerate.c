// The calls of Accelerate that csrc/cpu uses on a Mac, in the plainest C, so that its Accelerate branch can run
// anywhere: scripts/check_accelerate.py. Declared by scripts/macos_stubs, where the meaning of each call stands.
#include <Accelerate/Accelerate.h>

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

// Adds a function's name to the file that ACCELERATE_SHIM_REPORT names, at its first call: what is never exercised is
// not tested.
static void report(atomic_flag *seen, const char *name) {
  if (atomic_flag_test_and_set(seen)) return;
  const char *path = getenv("ACCELERATE_SHIM_REPORT");
  if (!path) return;
  FILE *file = fopen(path, "a");
  if (!file || fprintf(file, "%s\n", name) < 0 || fclose(file) != 0) {
    perror(path);
    abort();
  }
}

#define REPORT_USE()                            \
  do {                                          \
    static atomic_flag seen = ATOMIC_FLAG_INIT; \
    report(&seen, __func__);                    \
  } while (0)

#define EACH(i) for (vDSP_Stride i = 0; i < (vDSP_Stride)count; ++i)

void vDSP_vclr(float *c, vDSP_Stride c_step, vDSP_Length count) {
  REPORT_USE();
  EACH(i) c[i * c_step] = 0.0f;
}

void vDSP_vadd(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Stride c_step,
               vDSP_Length count) {
  REPORT_USE();
  EACH(i) c[i * c_step] = a[i * a_step] + b[i * b_step];
}

void vDSP_vsub(const float *b, vDSP_Stride b_step, const float *a, vDSP_Stride a_step, float *c, vDSP_Stride c_step,
               vDSP_Length count) {
  REPORT_USE();
  EACH(i) c[i * c_step] = a[i * a_step] - b[i * b_step];
}

void vDSP_vmul(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Stride c_step,
               vDSP_Length count) {
  REPORT_USE();
  EACH(i) c[i * c_step] = a[i * a_step] * b[i * b_step];
}

void vDSP_vsmul(const float *a, vDSP_Stride a_step, const float *b, float *c, vDSP_Stride c_step, vDSP_Length count) {
  REPORT_USE();
  EACH(i) c[i * c_step] = a[i * a_step] * *b;
}

void vDSP_vsma(const float *a, vDSP_Stride a_step, const float *b, const float *c, vDSP_Stride c_step, float *d,
               vDSP_Stride d_step, vDSP_Length count) {
  REPORT_USE();
  EACH(i) d[i * d_step] = a[i * a_step] * *b + c[i * c_step];
}

void vDSP_vsmsb(const float *a, vDSP_Stride a_step, const float *b, const float *c, vDSP_Stride c_step, float *d,
                vDSP_Stride d_step, vDSP_Length count) {
  REPORT_USE();
  EACH(i) d[i * d_step] = a[i * a_step] * *b - c[i * c_step];
}

void vDSP_vsmsa(const float *a, vDSP_Stride a_step, const float *b, const float *c, float *d, vDSP_Stride d_step,
                vDSP_Length count) {
  REPORT_USE();
  EACH(i) d[i * d_step] = a[i * a_step] * *b + *c;
}

void vDSP_vma(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
              vDSP_Stride c_step, float *d, vDSP_Stride d_step, vDSP_Length count) {
  REPORT_USE();
  EACH(i) d[i * d_step] = a[i * a_step] * b[i * b_step] + c[i * c_step];
}

void vDSP_vmma(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
               vDSP_Stride c_step, const float *d, vDSP_Stride d_step, float *e, vDSP_Stride e_step,
               vDSP_Length count) {
  REPORT_USE();
  EACH(i) e[i * e_step] = a[i * a_step] * b[i * b_step] + c[i * c_step] * d[i * d_step];
}

void vDSP_vmmsb(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
                vDSP_Stride c_step, const float *d, vDSP_Stride d_step, float *e, vDSP_Stride e_step,
                vDSP_Length count) {
  REPORT_USE();
  EACH(i) e[i * e_step] = a[i * a_step] * b[i * b_step] - c[i * c_step] * d[i * d_step];
}

void vDSP_sve(const float *a, vDSP_Stride a_step, float *c, vDSP_Length count) {
  REPORT_USE();
  double sum = 0;
  EACH(i) sum += a[i * a_step];
  *c = (float)sum;
}

void vDSP_dotpr(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Length count) {
  REPORT_USE();
  double sum = 0;
  EACH(i) sum += (double)a[i * a_step] * b[i * b_step];
  *c = (float)sum;
}

void vvrsqrtf(float *y, const float *x, const int *count) {
  REPORT_USE();
  for (int i = 0; i < *count; ++i) y[i] = 1.0f / sqrtf(x[i]);
}

void cblas_sgemv(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE transpose, const int m, const int n,
                 const float alpha, const float *a, const int lda, const float *x, const int x_step, const float beta,
                 float *y, const int y_step) {
  REPORT_USE();
  if (order != CblasRowMajor || transpose != CblasNoTrans) abort();
  for (ptrdiff_t i = 0; i < m; ++i) {
    double sum = 0;
    for (ptrdiff_t j = 0; j < n; ++j) sum += (double)a[i * lda + j] * x[j * x_step];
    y[i * y_step] = (float)(alpha * sum + (beta == 0.0f ? 0.0 : (double)beta * y[i * y_step]));
  }
}

void cblas_sgemm(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE transpose_a,
                 const enum CBLAS_TRANSPOSE transpose_b, const int m, const int n, const int k, const float alpha,
                 const float *a, const int lda, const float *b, const int ldb, const float beta, float *c,
                 const int ldc) {
  REPORT_USE();
  if (order != CblasRowMajor) abort();
  for (ptrdiff_t i = 0; i < m; ++i) {
    for (ptrdiff_t j = 0; j < n; ++j) {
      double sum = 0;
      for (ptrdiff_t l = 0; l < k; ++l) {
        const float x = transpose_a == CblasNoTrans ? a[i * lda + l] : a[l * lda + i];
        const float y = transpose_b == CblasNoTrans ? b[l * ldb + j] : b[j * ldb + l];
        sum += (double)x * y;
      }
      // With beta 0 what is in c is not read: it may be NaN.
      c[i * ldc + j] = (float)(alpha * sum + (beta == 0.0f ? 0.0 : (double)beta * c[i * ldc + j]));
    }
  }
}
