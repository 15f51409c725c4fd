#define ANE_DIGEST bits_digest_base
#include "bits_digest.inc"
