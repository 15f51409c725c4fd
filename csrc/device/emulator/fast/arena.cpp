#include "arena.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <tuple>
#include <utility>

#include "../huge_pages.h"

namespace ane::fast {

namespace {

constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct FreeBlocks {
  std::mutex mutex;
  std::vector<std::pair<uint8_t *, size_t>> blocks;
};

// Never destroyed: a program may still run in another thread when the process exits.
FreeBlocks &free_blocks() {
  static FreeBlocks *blocks = new FreeBlocks;
  return *blocks;
}

}  // namespace

std::vector<size_t> place(const std::vector<Lifetime> &buffers, size_t *total) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<size_t> offsets(buffers.size(), 0), placed;
  *total = 0;
  for (size_t buffer : order) {  // the largest first, each at the lowest place that is free all its life
    const Lifetime &life = buffers[buffer];
    if (life.first < 0) continue;
    size_t offset = 0;
    for (size_t other : placed) {  // by offset
      if (buffers[other].first > life.last || buffers[other].last < life.first) continue;
      if (offset + aligned(life.bytes) <= offsets[other]) break;
      offset = std::max(offset, offsets[other] + aligned(buffers[other].bytes));
    }
    offsets[buffer] = offset;
    *total = std::max(*total, offset + aligned(life.bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer,
                                   [&](size_t a, size_t b) { return offsets[a] < offsets[b]; }),
                  buffer);
  }
  return offsets;
}

ArenaBlock::ArenaBlock(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  FreeBlocks &free = free_blocks();
  {
    const std::lock_guard lock(free.mutex);
    auto best = free.blocks.end();  // the smallest that is large enough, else the largest
    for (auto block = free.blocks.begin(); block != free.blocks.end(); ++block) {
      const bool better =
          best == free.blocks.end() || (block->second >= bytes ? best->second < bytes || block->second < best->second
                                                               : block->second > best->second);
      if (better) best = block;
    }
    if (best != free.blocks.end()) {
      std::tie(base_, bytes_) = *best;
      free.blocks.erase(best);
    }
  }
  if (base_ != nullptr && bytes_ >= bytes) return;
  HugePageAllocator<uint8_t> memory;
  if (base_ != nullptr) memory.deallocate(base_, bytes_);
  bytes_ = aligned(bytes);
  base_ = memory.allocate(bytes_);
}

ArenaBlock::~ArenaBlock() {
  if (base_ == nullptr) return;
  FreeBlocks &free = free_blocks();
  const std::lock_guard lock(free.mutex);
  free.blocks.emplace_back(base_, bytes_);
}

}  // namespace ane::fast
