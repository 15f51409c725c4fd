#define ANE_AUDIT_BLOCK audit_block_avx512
#include "audit_kernels.inc"
