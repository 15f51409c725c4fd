#define ANE_DIGEST vmath_digest_avx2
#include "vmath_digest.inc"
