#define ANE_AUDIT_BLOCK audit_block_base
#include "audit_kernels.inc"
