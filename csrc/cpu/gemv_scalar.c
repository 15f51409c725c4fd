// gemv's inner loop in plain C, for CPUs without conversion instructions.
#include "fp16.h"
#include "gemv_versions.h"

void anecpu_gemv_scalar(const uint16_t *const w[kGemvRows], const float *x, size_t steps,
                        float sums[kGemvRows][kGemvLanes]) {
  for (int r = 0; r < kGemvRows; ++r)
    for (size_t k = 0; k < steps * kGemvLanes; ++k)
      sums[r][k % kGemvLanes] = __builtin_fmaf(anecpu_float_from_half(w[r][k]), x[k], sums[r][k % kGemvLanes]);
}
