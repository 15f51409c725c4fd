#include "cpu_features.h"

#if defined(__x86_64__)

bool anecpu_has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool anecpu_has_avx512(void) {
  return anecpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

const char *anecpu_cpu_features(void) {
  if (anecpu_has_avx512()) return "avx512 avx2 fma f16c";
  return anecpu_has_avx2() ? "avx2 fma f16c" : "sse2";
}

#else

bool anecpu_has_avx2(void) { return false; }
bool anecpu_has_avx512(void) { return false; }

// NEON and its fp16 conversions are part of every arm64 CPU.
const char *anecpu_cpu_features(void) { return "neon"; }

#endif
