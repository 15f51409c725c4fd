// GCC 12 takes the undefined lanes that its own AVX-512 headers begin with for a mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include "kernels.inc"

namespace ane::cpu {
extern const Kernels kKernelsAvx512;
const Kernels kKernelsAvx512 = made("avx512");
}  // namespace ane::cpu
