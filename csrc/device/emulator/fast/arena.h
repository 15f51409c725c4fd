// Where temporaries stand: one block of memory for a run, shared by buffers that are never alive together.
#ifndef ANETRAIN_FAST_ARENA_H
#define ANETRAIN_FAST_ARENA_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ane::fast {

struct Lifetime {
  int first = -1, last = -1;  // stages, inclusive; -1: never used
  size_t bytes = 0;
};

// Offsets by buffer, each a multiple of 64; `total` gets the size of the block.
std::vector<size_t> place(const std::vector<Lifetime> &buffers, size_t *total);

// Blocks go round between programs: one that runs takes a free one, so memory is the largest program's, not the sum.
class ArenaBlock {
 public:
  explicit ArenaBlock(size_t bytes);
  ~ArenaBlock();
  ArenaBlock(const ArenaBlock &) = delete;
  ArenaBlock &operator=(const ArenaBlock &) = delete;
  uint8_t *base() const { return base_; }

 private:
  uint8_t *base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ane::fast
#endif
