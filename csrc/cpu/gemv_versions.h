// What one instruction set brings to gemv.c.
#ifndef ANETRAIN_GEMV_VERSIONS_H
#define ANETRAIN_GEMV_VERSIONS_H

#include <stddef.h>
#include <stdint.h>

enum {
  kGemvRows = 4,    // at once, so that x is loaded once for all
  kGemvLanes = 32,  // partial sums of a row: column k goes into sum k % 32, whatever a vector's width
};

// sums[r][k % 32] = fma(w[r][k], x[k], sums[r][k % 32]) over 32 * steps columns.
typedef void GemvVersion(const uint16_t *const w[kGemvRows], const float *x, size_t steps,
                         float sums[kGemvRows][kGemvLanes]);

extern GemvVersion anecpu_gemv_scalar;
#if defined(__x86_64__)
extern GemvVersion anecpu_gemv_f16c, anecpu_gemv_avx512;
#elif defined(__aarch64__)
extern GemvVersion anecpu_gemv_neon;
#endif

#endif
