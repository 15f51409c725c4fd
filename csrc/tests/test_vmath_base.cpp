#define ANE_DIGEST vmath_digest_base
#include "vmath_digest.inc"
