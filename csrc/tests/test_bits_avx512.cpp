#define ANE_DIGEST bits_digest_avx512
#include "bits_digest.inc"
