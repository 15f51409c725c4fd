#include "kernels.inc"

namespace ane::cpu {
extern const Kernels kKernelsBase;
const Kernels kKernelsBase = made("base");
}  // namespace ane::cpu
