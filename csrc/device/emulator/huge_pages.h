// Memory for large matrices, on huge pages where Linux gives them: a product reads many rows of its factors at once,
// and with rows on pages of their own it would wait for page tables as often as for memory.
#ifndef ANETRAIN_EMULATOR_HUGE_PAGES_H
#define ANETRAIN_EMULATOR_HUGE_PAGES_H

#include <cstddef>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ane {

template <class T>
struct HugePageAllocator {
  using value_type = T;
  static constexpr size_t kPage = size_t{1} << 21;

  HugePageAllocator() = default;
  template <class U>
  explicit HugePageAllocator(const HugePageAllocator<U> &) {}

  static std::align_val_t alignment(size_t bytes) { return std::align_val_t{bytes < kPage ? 64 : kPage}; }

  T *allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    void *const memory = ::operator new(bytes, alignment(bytes));
#if defined(__linux__)
    // A hint: where it is refused, pages are small. What is less than a page at the end stays on small ones.
    if (bytes >= kPage) (void)madvise(memory, bytes / kPage * kPage, MADV_HUGEPAGE);
#endif
    return static_cast<T *>(memory);
  }
  void deallocate(T *memory, size_t count) { ::operator delete(memory, alignment(count * sizeof(T))); }

  friend bool operator==(const HugePageAllocator &, const HugePageAllocator &) { return true; }
};

using LargeFloats = std::vector<float, HugePageAllocator<float>>;

}  // namespace ane
#endif
