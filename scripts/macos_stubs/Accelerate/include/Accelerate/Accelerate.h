/* The part of Accelerate that anetrain uses, declared as on a Mac. */
#ifndef STUB_ACCELERATE_H
#define STUB_ACCELERATE_H

#ifdef __cplusplus
extern "C" {
#endif

enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };

void cblas_sgemm(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE transpose_a,
                 const enum CBLAS_TRANSPOSE transpose_b, const int m, const int n, const int k, const float alpha,
                 const float *a, const int lda, const float *b, const int ldb, const float beta, float *c,
                 const int ldc);

#ifdef __cplusplus
}
#endif
#endif
