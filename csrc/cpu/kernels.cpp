// Chooses the kernels for this machine.
#include "kernels.h"

#include <atomic>
#include <cstring>

#include "cpu_features.h"

namespace ane::cpu {

extern const Kernels kKernelsBase;
#if defined(__x86_64__)
extern const Kernels kKernelsAvx2, kKernelsAvx512;
#endif
#if defined(ANETRAIN_ACCELERATE)
Kernels accelerated(const Kernels &others);  // kernels_accelerate.cpp
#endif

namespace {

const Kernels &best_lanes() {
#if defined(__x86_64__)
  if (anecpu_has_avx512()) return kKernelsAvx512;
  if (anecpu_has_avx2()) return kKernelsAvx2;
#endif
  return kKernelsBase;
}

const Kernels &best() {
#if defined(ANETRAIN_ACCELERATE)
  static const Kernels accelerate = accelerated(best_lanes());
  return accelerate;
#else
  return best_lanes();
#endif
}

std::atomic<const Kernels *> selected{nullptr};

}  // namespace

const Kernels &kernels() {
  const Kernels *chosen = selected.load(std::memory_order_relaxed);
  return chosen ? *chosen : best();
}

bool select_kernels(const char *name) {
  const Kernels *found = nullptr;
  if (name) {
    for (const Kernels *candidate : {&kKernelsBase, &best_lanes(), &best()})
      if (std::strcmp(candidate->name, name) == 0) found = candidate;
#if defined(__x86_64__)
    if (std::strcmp(name, "avx2") == 0 && anecpu_has_avx2()) found = &kKernelsAvx2;
#endif
    if (!found) return false;
  }
  selected.store(found);
  return true;
}

}  // namespace ane::cpu
