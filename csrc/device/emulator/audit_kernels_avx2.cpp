#define ANE_AUDIT_BLOCK audit_block_avx2
#include "audit_kernels.inc"
