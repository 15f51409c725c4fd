#include "kernels.inc"

namespace ane::cpu {
extern const Kernels kKernelsAvx2;
const Kernels kKernelsAvx2 = made("avx2");
}  // namespace ane::cpu
