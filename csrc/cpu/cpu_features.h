/* What this CPU can do. */
#ifndef ANETRAIN_CPU_FEATURES_H
#define ANETRAIN_CPU_FEATURES_H

#include <stdbool.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* May code from a file named *_avx2 (AVX2, FMA, F16C) or *_avx512 (those and AVX-512 F, BW, VL, DQ) run? */
bool anecpu_has_avx2(void);
bool anecpu_has_avx512(void);

const char *anecpu_cpu_features(void); /* for people: "avx512 avx2 fma f16c", "neon" */

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
