// A checked graph made ready to run. Three implementations share one meaning: reference, fast, audit.
#ifndef ANETRAIN_EMULATOR_EXECUTOR_H
#define ANETRAIN_EMULATOR_EXECUTOR_H

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "huge_pages.h"
#include "ir.h"
#include "profile.h"

namespace ane {

namespace fast {
struct Plan;
}

// An fp32 image of a surface, made block by block, as far as programs read it.
struct Image {
  static constexpr size_t kBlock = 16384;  // elements

  LargeFloats values;                // element i of the surface, widened from fp16
  std::vector<bool> block_is_ready;  // by block
};

// An image kept with its surface, so that weights whose seed did not change are not converted again, whichever program
// reads them. Content that was read only once before it changed (activations) was not worth its place: what follows is
// converted to memory of the program, which stays in the caches, until some content is read a second time.
struct SurfaceImage {
  std::mutex mutex;
  uint64_t seed = 0;           // the content that was read last; 0: none
  bool was_read_again = true;  // that content; true also before there is any: nothing speaks against keeping the first
  bool is_kept = false;        // it is converted to `image`
  Image image;
};

// A surface as one evaluation sees it. Border tensors are dense (widths are multiples of 32), in the type of the port.
struct BoundSurface {
  uint8_t *base = nullptr;
  size_t bytes = 0;
  uint64_t seed = 0;              // inputs only; never 0
  SurfaceImage *image = nullptr;  // may be null
};

struct ExecutorOptions {
  const Profile *profile = nullptr;  // outlives the executor
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Surfaces in the graph's declared order. Not reentrant: the caller holds a lock per program. An input surface may
  // also be an output surface. Throws DeviceError; outputs are then undefined.
  virtual void run(const std::vector<BoundSurface> &inputs, const std::vector<BoundSurface> &outputs) = 0;
  // Bytes kept between runs (packed constants, scratch).
  virtual size_t resident_bytes() const = 0;
  // A JSON object of what happened in the runs so far (audit: products flushed, sums that overflowed); "{}" for none.
  virtual std::string counters_json() const { return "{}"; }
};

std::unique_ptr<Executor> make_reference_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options);
std::unique_ptr<Executor> make_audit_executor(std::shared_ptr<const Graph> graph, const ExecutorOptions &options);
// In two parts, of which the first serves all programs of one text, unless the contents of blob files had a say in it
// (`blobs` of the graph that were read). `blobs`: of the program, in place of Graph::blobs.
std::shared_ptr<const fast::Plan> make_fast_plan(std::shared_ptr<const Graph> graph, const ExecutorOptions &options);
std::unique_ptr<Executor> make_fast_executor(std::shared_ptr<const fast::Plan> plan,
                                             const std::vector<ConstantPtr> &blobs);

}  // namespace ane
#endif
