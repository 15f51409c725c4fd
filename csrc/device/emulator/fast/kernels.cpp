#include "kernels.h"

#include <cstring>

#include "../../../cpu/cpu_features.h"

namespace ane::fast {

extern const Kernels kKernelsBase;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2, kKernelsAvx512;
#endif

namespace {

const Kernels *best() {
#if defined(__x86_64__)
  if (anecpu_has_avx512()) return &kKernelsAvx512;
  if (anecpu_has_avx2()) return &kKernelsAvx2;
#endif
  return &kKernelsBase;
}

const Kernels *&selected() {
  static const Kernels *kernels = best();
  return kernels;
}

}  // namespace

const Kernels &kernels() { return *selected(); }

bool select_kernels(const char *name) {
#if defined(__x86_64__)
  if (std::strcmp(name, "avx512") == 0 && anecpu_has_avx512()) return selected() = &kKernelsAvx512, true;
  if (std::strcmp(name, "avx2") == 0 && anecpu_has_avx2()) return selected() = &kKernelsAvx2, true;
#endif
  if (std::strcmp(name, "base") == 0) return selected() = &kKernelsBase, true;
  return false;
}

}  // namespace ane::fast
