#define ANE_DIGEST bits_digest_avx2
#include "bits_digest.inc"
