#define ANE_DIGEST vmath_digest_avx512
#include "vmath_digest.inc"
