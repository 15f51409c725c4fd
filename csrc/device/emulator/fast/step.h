// Units made ready to run: sizes, steps and addresses settled once.
#ifndef ANETRAIN_FAST_STEP_H
#define ANETRAIN_FAST_STEP_H

#include <cstdint>
#include <memory>

#include "unit.h"

namespace ane::fast {

using Bases = uint8_t *const *;  // where each buffer begins, by buffer

class Step {
 public:
  virtual ~Step() = default;
  // All of it, on all threads.
  virtual void run(Bases bases) const = 0;
  // In a region (see regions.h): the part of one index of the first axis, in this thread. Only for units that
  // regions.cpp takes.
  virtual void run_slice(Bases bases, int64_t slice) const;
};

// With `sliced` the first axis of every view is the region's.
std::unique_ptr<Step> make_gemm_step(const GemmUnit &unit, bool sliced);
std::unique_ptr<Step> make_conv_step(const ConvUnit &unit);
std::unique_ptr<Step> make_lane_step(const LaneUnit &unit, const Draft &draft, bool sliced);

// Memory of this thread, 64-byte aligned. Grows, never shrinks.
enum class Scratch : uint8_t { Step, Region };  // for the time of a step; for the time of a slice of a region
uint8_t *thread_scratch(Scratch purpose, size_t bytes);

inline float *floats_at(Bases bases, int buffer, int64_t offset) {
  return reinterpret_cast<float *>(bases[buffer]) + offset;
}

}  // namespace ane::fast
#endif
