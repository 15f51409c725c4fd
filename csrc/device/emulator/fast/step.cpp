#include "step.h"

#include <stdexcept>
#include <vector>

namespace ane::fast {

void Step::run_slice(Bases, int64_t) const { throw std::logic_error("a step that cannot be cut stands in a region"); }

uint8_t *thread_scratch(Scratch purpose, size_t bytes) {
  constexpr size_t kAlignment = 64;
  thread_local std::vector<uint8_t> blocks[2];
  std::vector<uint8_t> &block = blocks[static_cast<size_t>(purpose)];
  if (block.size() < bytes + kAlignment) block.resize(bytes + kAlignment);
  const uintptr_t address = reinterpret_cast<uintptr_t>(block.data());
  return reinterpret_cast<uint8_t *>((address + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace ane::fast
