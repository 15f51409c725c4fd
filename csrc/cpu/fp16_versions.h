// What one instruction set brings to the conversions and to products with fp16 weights; fp16.c chooses among them, adds
// threads and walks strides.
#ifndef ANETRAIN_FP16_VERSIONS_H
#define ANETRAIN_FP16_VERSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gemv_versions.h"

typedef struct {
  const char *name;
  // Contiguous. `stream`: the target is not read before it would have left the caches, so write around them; whoever
  // asks for that makes the writes visible to others (_mm_sfence).
  void (*halves_from_floats)(const float *source, uint16_t *target, size_t count, bool stream);
  void (*floats_from_halves)(const uint16_t *source, float *target, size_t count, bool stream);
  GemvVersion *gemv;
} Fp16Version;

const Fp16Version *anecpu_fp16_version(void);  // the chosen one

extern const Fp16Version anecpu_fp16_scalar;
#if defined(__x86_64__)
extern const Fp16Version anecpu_fp16_f16c, anecpu_fp16_avx512;
#elif defined(__aarch64__)
extern const Fp16Version anecpu_fp16_neon;
#endif

#endif
