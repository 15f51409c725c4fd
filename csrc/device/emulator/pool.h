// Memory of constants goes round between programs: weights that change are compiled again and again, and fresh pages
// cost more than what is put into them.
#ifndef ANETRAIN_EMULATOR_POOL_H
#define ANETRAIN_EMULATOR_POOL_H

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

namespace ane {

// Aligned to 64 bytes. Large blocks that were given back are taken again, as they were left; of these no more than
// kPooledBytes are kept, the latest ones.
constexpr size_t kPooledBytes = size_t{128} << 20;
void *take_block(size_t bytes);
void give_block(void *block, size_t bytes) noexcept;

// Elements that are not given a value have none.
template <class T>
struct PooledAllocator {
  using value_type = T;
  PooledAllocator() = default;
  template <class U>
  PooledAllocator(const PooledAllocator<U> &) noexcept {}
  T *allocate(size_t count) { return static_cast<T *>(take_block(count * sizeof(T))); }
  void deallocate(T *block, size_t count) noexcept { give_block(block, count * sizeof(T)); }
  template <class U, class... Arguments>
  void construct(U *place, Arguments &&...arguments) {
    if constexpr (sizeof...(Arguments) == 0) {
      ::new (static_cast<void *>(place)) U;
    } else {
      ::new (static_cast<void *>(place)) U(std::forward<Arguments>(arguments)...);
    }
  }
  bool operator==(const PooledAllocator &) const { return true; }
};

template <class T>
using PooledVector = std::vector<T, PooledAllocator<T>>;

}  // namespace ane
#endif
