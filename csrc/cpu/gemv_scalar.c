// gemv's inner loop in plain C, for CPUs without conversion instructions.
#include "fp16.h"
#include "gemv_versions.h"

static inline void add(const uint16_t *w, const float *x, float sums[kGemvLanes]) {
  for (int i = 0; i < kGemvLanes; ++i) sums[i] = __builtin_fmaf(anecpu_float_from_half(w[i]), x[i], sums[i]);
}

float anecpu_gemv_scalar(const uint16_t *w, const float *x, size_t steps, const GemvRest *rest) {
  float sums[kGemvLanes] = {0};
  for (size_t k = 0; k < steps * kGemvLanes; k += kGemvLanes) add(w + k, x + k, sums);
  if (rest) add(rest->w, rest->x, sums);
  return gemv_total(sums);
}
