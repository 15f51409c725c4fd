#include "kernels.inc"

namespace ane::fast {
extern const Kernels kKernelsBase;
const Kernels kKernelsBase = made("base");
}  // namespace ane::fast
