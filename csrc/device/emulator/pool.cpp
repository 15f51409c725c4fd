#include "pool.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <mutex>

namespace ane {

namespace {

constexpr size_t kAlignment = 64, kLarge = size_t{64} << 10;

struct Block {
  void *base;
  size_t bytes;
};

struct FreeBlocks {
  std::mutex mutex;
  std::deque<Block> blocks;  // the latest last
  size_t bytes = 0;
};

// Never destroyed: a program may be released in another thread when the process exits.
FreeBlocks &free_blocks() {
  static FreeBlocks *blocks = new FreeBlocks;
  return *blocks;
}

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A program that follows another one has constants of the same sizes, so only those are looked for.
void *taken_again(size_t bytes) {
  FreeBlocks &free = free_blocks();
  const std::lock_guard lock(free.mutex);
  const auto same =
      std::find_if(free.blocks.rbegin(), free.blocks.rend(), [&](const Block &block) { return block.bytes == bytes; });
  if (same == free.blocks.rend()) return nullptr;
  void *const base = same->base;
  free.blocks.erase(std::next(same).base());
  free.bytes -= bytes;
  return base;
}

}  // namespace

void *take_block(size_t bytes) {
  const size_t size = aligned(bytes);
  void *block = size < kLarge ? nullptr : taken_again(size);
  if (block == nullptr) block = std::aligned_alloc(kAlignment, size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void give_block(void *block, size_t bytes) noexcept {
  const size_t size = aligned(bytes);
  if (size < kLarge || size > kPooledBytes) return std::free(block);
  try {
    FreeBlocks &free = free_blocks();
    const std::lock_guard lock(free.mutex);
    free.blocks.push_back({block, size});
    free.bytes += size;
    while (free.bytes > kPooledBytes) {
      std::free(free.blocks.front().base);
      free.bytes -= free.blocks.front().bytes;
      free.blocks.pop_front();
    }
  } catch (const std::bad_alloc &) {
    std::free(block);
  }
}

}  // namespace ane
