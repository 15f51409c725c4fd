// What one instruction set brings to gemv.c.
#ifndef ANETRAIN_GEMV_VERSIONS_H
#define ANETRAIN_GEMV_VERSIONS_H

#include <stddef.h>
#include <stdint.h>

enum {
  kGemvLanes = 32,      // partial sums of a row: column k goes into sum k % 32, whatever a vector's width
  kGemvAhead = 8 << 10  // bytes; where rows are short, what a CPU fetches ahead by itself comes too late
};

// The columns that do not fill a step, with zeros behind them.
typedef struct {
  uint16_t w[kGemvLanes];
  float x[kGemvLanes];
} GemvRest;

// A row times x: 32 * steps columns and, unless it is null, the rest. Each column is a fused multiply and add into its
// partial sum; gemv_total says how these become one.
typedef float GemvVersion(const uint16_t *w, const float *x, size_t steps, const GemvRest *rest);

static inline float gemv_total(float lanes[kGemvLanes]) {
  for (int half = kGemvLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[half + i];
  return lanes[0];
}

// For every step: brings the weights of some rows further on into the cache.
static inline void gemv_fetch(const uint16_t *w) { __builtin_prefetch((const char *)w + kGemvAhead); }

extern GemvVersion anecpu_gemv_scalar;
#if defined(__x86_64__)
extern GemvVersion anecpu_gemv_f16c, anecpu_gemv_avx512;
#elif defined(__aarch64__)
extern GemvVersion anecpu_gemv_neon;
#endif

#endif
