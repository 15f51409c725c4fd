#include "constants.h"

#include <algorithm>
#include <deque>
#include <mutex>

#include "../huge_pages.h"
#include "../payload.h"

namespace ane::fast {

namespace {

constexpr size_t kAlignedFloats = 64 / sizeof(float);

struct Block {
  float *base;
  size_t count;
};

struct FreeBlocks {
  std::mutex mutex;
  std::deque<Block> blocks;  // the latest last
  size_t count = 0;
};

// Never destroyed: a program may be released in another thread when the process exits.
FreeBlocks &free_blocks() {
  static FreeBlocks *blocks = new FreeBlocks;
  return *blocks;
}

// False: it is too large, or there is no memory to write it down.
bool keep_free_block(const Block &block) {
  constexpr size_t kMost = FloatBlock::kFreeBytes / sizeof(float);
  if (block.count > kMost) return false;
  FreeBlocks &free = free_blocks();
  const std::lock_guard lock(free.mutex);
  try {
    free.blocks.push_back(block);
  } catch (const std::bad_alloc &) {
    return false;
  }
  free.count += block.count;
  while (free.count > kMost) {
    const Block oldest = free.blocks.front();
    HugePageAllocator<float>().deallocate(oldest.base, oldest.count);
    free.count -= oldest.count;
    free.blocks.pop_front();
  }
  return true;
}

void write_floats(const Constant &constant, float *to) {
  const auto count = static_cast<size_t>(constant.count());
  const DType type = constant.type.dtype;
  if (type == DType::Fp16 || type == DType::Fp32) {
    const Payload *unread = constant.unread();
    floats_from_payload(unread ? *unread : Payload{constant.bytes().data(), constant.size_bytes(), type}, to, count);
  } else {
    for (size_t i = 0; i < count; ++i) to[i] = static_cast<float>(constant.number(static_cast<int64_t>(i)));
  }
}

// Where the constant of each buffer begins, and where the last one ends.
std::vector<size_t> begins(const std::vector<Buffer> &buffers) {
  std::vector<size_t> result = {0};
  for (const Buffer &buffer : buffers) {
    const size_t count = buffer.storage == Storage::Constant ? static_cast<size_t>(buffer.count) : 0;
    result.push_back(result.back() + (count + kAlignedFloats - 1) / kAlignedFloats * kAlignedFloats);
  }
  return result;
}

}  // namespace

FloatBlock::FloatBlock(size_t count) : count_(count) {
  if (count == 0) return;
  FreeBlocks &free = free_blocks();
  {
    const std::lock_guard lock(free.mutex);
    const auto same = std::find_if(free.blocks.rbegin(), free.blocks.rend(),
                                   [&](const Block &block) { return block.count == count; });
    if (same != free.blocks.rend()) {
      base_ = same->base;
      free.blocks.erase(std::next(same).base());
      free.count -= count;
      return;
    }
  }
  base_ = HugePageAllocator<float>().allocate(count);
}

FloatBlock::~FloatBlock() {
  if (base_ && !keep_free_block({base_, count_})) HugePageAllocator<float>().deallocate(base_, count_);
}

size_t FloatBlock::free_bytes() {
  FreeBlocks &free = free_blocks();
  const std::lock_guard lock(free.mutex);
  return free.count * sizeof(float);
}

ConstantFloats::ConstantFloats(const std::vector<Buffer> &buffers, const std::vector<ConstantPtr> &blobs)
    : begins_(begins(buffers)), block_(begins_.back()) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    const ConstantPtr &constant = buffers[i].constant;
    if (!constant) continue;
    write_floats(constant->blob < 0 ? *constant : *blobs[static_cast<size_t>(constant->blob)],
                 block_.base() + begins_[i]);
  }
}

}  // namespace ane::fast
