/* The part of Accelerate that anetrain uses, declared as on a Mac. */
#ifndef STUB_ACCELERATE_H
#define STUB_ACCELERATE_H

#ifdef __cplusplus
extern "C" {
#endif

enum CBLAS_ORDER { CblasRowMajor = 101, CblasColMajor = 102 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112, CblasConjTrans = 113 };

void cblas_sgemv(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE transpose, const int m, const int n,
                 const float alpha, const float *a, const int lda, const float *x, const int x_step, const float beta,
                 float *y, const int y_step);
void cblas_sgemm(const enum CBLAS_ORDER order, const enum CBLAS_TRANSPOSE transpose_a,
                 const enum CBLAS_TRANSPOSE transpose_b, const int m, const int n, const int k, const float alpha,
                 const float *a, const int lda, const float *b, const int ldb, const float beta, float *c,
                 const int ldc);

typedef unsigned long vDSP_Length;
typedef long vDSP_Stride;

/* Of the letters, the last is the result. */
/* c = 0 */
void vDSP_vclr(float *c, vDSP_Stride c_step, vDSP_Length count);
/* c = a + b */
void vDSP_vadd(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Stride c_step,
               vDSP_Length count);
/* c = a - b; b comes first */
void vDSP_vsub(const float *b, vDSP_Stride b_step, const float *a, vDSP_Stride a_step, float *c, vDSP_Stride c_step,
               vDSP_Length count);
/* c = a b */
void vDSP_vmul(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Stride c_step,
               vDSP_Length count);
/* c = a b, with one b */
void vDSP_vsmul(const float *a, vDSP_Stride a_step, const float *b, float *c, vDSP_Stride c_step, vDSP_Length count);
/* d = a b + c, with one b */
void vDSP_vsma(const float *a, vDSP_Stride a_step, const float *b, const float *c, vDSP_Stride c_step, float *d,
               vDSP_Stride d_step, vDSP_Length count);
/* d = a b - c, with one b */
void vDSP_vsmsb(const float *a, vDSP_Stride a_step, const float *b, const float *c, vDSP_Stride c_step, float *d,
                vDSP_Stride d_step, vDSP_Length count);
/* d = a b + c, with one b and one c */
void vDSP_vsmsa(const float *a, vDSP_Stride a_step, const float *b, const float *c, float *d, vDSP_Stride d_step,
                vDSP_Length count);
/* d = a b + c */
void vDSP_vma(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
              vDSP_Stride c_step, float *d, vDSP_Stride d_step, vDSP_Length count);
/* e = a b + c d */
void vDSP_vmma(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
               vDSP_Stride c_step, const float *d, vDSP_Stride d_step, float *e, vDSP_Stride e_step, vDSP_Length count);
/* e = a b - c d */
void vDSP_vmmsb(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, const float *c,
                vDSP_Stride c_step, const float *d, vDSP_Stride d_step, float *e, vDSP_Stride e_step,
                vDSP_Length count);
/* c = the sum of a */
void vDSP_sve(const float *a, vDSP_Stride a_step, float *c, vDSP_Length count);
/* c = the sum of a b */
void vDSP_dotpr(const float *a, vDSP_Stride a_step, const float *b, vDSP_Stride b_step, float *c, vDSP_Length count);
/* y = 1 / sqrt(x) */
void vvrsqrtf(float *y, const float *x, const int *count);

#ifdef __cplusplus
}
#endif
#endif
