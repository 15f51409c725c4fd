// The constants of a program in fp32, as steps read them.
#ifndef ANETRAIN_FAST_CONSTANTS_H
#define ANETRAIN_FAST_CONSTANTS_H

#include <vector>

#include "unit.h"

namespace ane::fast {

// Memory of a program until it is unloaded. A program with new weights follows one with old ones of the same size, and
// fresh pages cost more than what is put into them: so blocks that were given back are taken again, as they were left.
class FloatBlock {
 public:
  // Of free blocks no more than these many bytes are kept, the latest ones.
  static constexpr size_t kFreeBytes = size_t{128} << 20;

  explicit FloatBlock(size_t count);
  ~FloatBlock();
  FloatBlock(const FloatBlock &) = delete;
  FloatBlock &operator=(const FloatBlock &) = delete;

  float *base() const { return base_; }
  size_t count() const { return count_; }
  static size_t free_bytes();

 private:
  const size_t count_;
  float *base_ = nullptr;
};

// All constants of a program.
class ConstantFloats {
 public:
  // `blobs`: what the constants of blob files are in this program.
  ConstantFloats(const std::vector<Buffer> &buffers, const std::vector<ConstantPtr> &blobs);

  uint8_t *of(size_t buffer) const { return reinterpret_cast<uint8_t *>(block_.base() + begins_[buffer]); }
  size_t bytes() const { return block_.count() * sizeof(float); }

 private:
  std::vector<size_t> begins_;  // by buffer; the last one is the end of all
  FloatBlock block_;
};

}  // namespace ane::fast
#endif
