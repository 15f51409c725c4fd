// The fast executor: binds surfaces to the buffers of a plan and runs its stages.
#include "../executor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "../../../cpu/fp16.h"
#include "../../../cpu/threads.h"
#include "../elements.h"
#include "arena.h"
#include "constants.h"
#include "plan.h"

namespace ane::fast {

namespace {

size_t block_count(size_t elements) { return (elements + Image::kBlock - 1) / Image::kBlock; }

// Room for all of a surface, nothing of it converted. What has room already is not moved: another program may read it.
void begin_image(Image *image, size_t elements) {
  if (image->values.size() != elements) image->values.resize(elements);
  image->block_is_ready.assign(block_count(elements), false);
}

// Converts the blocks of a part that are not ready yet, neighbours together; false: all were.
bool make_ready(Image *image, const uint16_t *halves, const Footprint &part) {
  const size_t last = static_cast<size_t>(part.last) / Image::kBlock + 1;
  bool converted = false;
  for (size_t block = static_cast<size_t>(part.first) / Image::kBlock; block < last; ++block) {
    const size_t first = block;
    while (block < last && !image->block_is_ready[block]) image->block_is_ready[block++] = true;
    if (block == first) continue;
    const size_t begin = first * Image::kBlock;
    const size_t end = std::min(block * Image::kBlock, image->values.size());
    anecpu_floats_from_halves(halves + begin, image->values.data() + begin, end - begin);
    converted = true;
  }
  return converted;
}

// Where this content of a surface is converted to: an image of its own, or `passing`. Called once for each reading.
Image *image_for(SurfaceImage *surface, uint64_t seed, size_t elements, Image *passing) {
  const bool is_new = surface->seed != seed, was_kept = surface->is_kept;
  surface->is_kept = !is_new || surface->was_read_again;
  surface->was_read_again = !is_new;
  surface->seed = seed;
  if (!surface->is_kept) surface->image = {};
  Image *const image = surface->is_kept ? &surface->image : passing;
  if (is_new || !was_kept) begin_image(image, elements);
  return image;
}

bool overlap(const BoundSurface &a, const BoundSurface &b) {
  return a.base < b.base + b.bytes && b.base < a.base + a.bytes;
}

// Surfaces of other types are widened to fp32 before the stages and narrowed after them.
bool is_computed_in_place(DType type) { return type == DType::Fp16 || type == DType::Fp32; }

class FastExecutor : public Executor {
 public:
  FastExecutor(std::shared_ptr<const Plan> plan, const std::vector<ConstantPtr> &blobs);
  void run(const std::vector<BoundSurface> &inputs, const std::vector<BoundSurface> &outputs) override;
  size_t resident_bytes() const override;
  std::string counters_json() const override;

 private:
  uint8_t *source(const Buffer &buffer, const BoundSurface &surface, LargeFloats *own) const;
  uint8_t *image(const Buffer &buffer, const BoundSurface &surface, Image *own);
  uint8_t *target(const Buffer &buffer, const std::vector<BoundSurface> &inputs, const BoundSurface &surface);
  void run_region(const Stage &stage);

  const std::shared_ptr<const Plan> plan_;
  ConstantFloats constants_;
  std::vector<uint8_t *> bases_;              // by buffer
  std::vector<Image> own_images_;             // by buffer: of surfaces that keep none
  std::vector<std::vector<uint8_t>> staged_;  // by output port: written here first; empty: straight to the surface
  uint64_t conversions_ = 0;                  // surfaces widened to fp32 images
};

FastExecutor::FastExecutor(std::shared_ptr<const Plan> plan, const std::vector<ConstantPtr> &blobs)
    : plan_(std::move(plan)),
      constants_(plan_->buffers, blobs),
      bases_(plan_->buffers.size()),
      own_images_(plan_->buffers.size()) {
  for (size_t i = 0; i < plan_->buffers.size(); ++i) {
    const Buffer &buffer = plan_->buffers[i];
    if (buffer.storage == Storage::Constant) bases_[i] = constants_.of(i);
    if (buffer.storage == Storage::Output) {
      staged_.resize(std::max(staged_.size(), static_cast<size_t>(buffer.port) + 1));
    }
  }
}

// Where an input is read: the surface, or its values in fp32.
uint8_t *FastExecutor::source(const Buffer &buffer, const BoundSurface &surface, LargeFloats *own) const {
  const DType type = plan_->input_types[static_cast<size_t>(buffer.port)];
  if (is_computed_in_place(type)) return surface.base;
  own->resize(static_cast<size_t>(buffer.count));
  floats_from_elements(type, surface.base, own->data(), buffer.count);
  return reinterpret_cast<uint8_t *>(own->data());
}

// The surface in fp32, as far as this program reads it, converted again only when its content changed.
uint8_t *FastExecutor::image(const Buffer &buffer, const BoundSurface &surface, Image *own) {
  const uint16_t *halves = reinterpret_cast<const uint16_t *>(surface.base);
  const size_t elements = surface.bytes / sizeof(uint16_t);
  Image *image = own;
  std::unique_lock<std::mutex> lock;
  if (surface.image == nullptr) {
    begin_image(own, elements);
  } else {
    lock = std::unique_lock(surface.image->mutex);
    image = image_for(surface.image, surface.seed, elements, own);
  }
  bool converted = false;
  for (const Footprint &needed : buffer.read) converted |= make_ready(image, halves, needed);
  conversions_ += converted;
  return reinterpret_cast<uint8_t *>(image->values.data());
}

// Where an output is written: the surface, or, while that is an input too or of another type, a block of its own until
// the end.
uint8_t *FastExecutor::target(const Buffer &buffer, const std::vector<BoundSurface> &inputs,
                              const BoundSurface &surface) {
  std::vector<uint8_t> &staged = staged_[static_cast<size_t>(buffer.port)];
  const bool staging =
      !is_computed_in_place(plan_->output_types[static_cast<size_t>(buffer.port)]) ||
      std::any_of(inputs.begin(), inputs.end(), [&](const BoundSurface &input) { return overlap(input, surface); });
  staged.resize(staging ? static_cast<size_t>(buffer.count) * (buffer.half ? 2 : 4) : 0);
  return staging ? staged.data() : surface.base;
}

void FastExecutor::run(const std::vector<BoundSurface> &inputs, const std::vector<BoundSurface> &outputs) {
  const ArenaBlock arena(plan_->arena_bytes);
  for (size_t i = 0; i < plan_->buffers.size(); ++i) {
    const Buffer &buffer = plan_->buffers[i];
    const size_t port = static_cast<size_t>(buffer.port);
    switch (buffer.storage) {
      case Storage::Temporary: bases_[i] = arena.base() + plan_->offsets[i]; break;
      case Storage::Constant: break;
      case Storage::Input: bases_[i] = source(buffer, inputs[port], &own_images_[i].values); break;
      case Storage::InputImage: bases_[i] = image(buffer, inputs[port], &own_images_[i]); break;
      case Storage::Output: bases_[i] = target(buffer, inputs, outputs[port]); break;
    }
  }
  for (const Stage &stage : plan_->stages) {
    if (stage.slices > 0) {
      run_region(stage);
    } else {
      stage.steps[0]->run(bases_.data());
    }
  }
  for (size_t port = 0; port < staged_.size(); ++port) {
    const std::vector<uint8_t> &staged = staged_[port];
    if (staged.empty()) continue;
    if (is_computed_in_place(plan_->output_types[port])) {
      std::memcpy(outputs[port].base, staged.data(), staged.size());
    } else {
      elements_from_floats(plan_->output_types[port], reinterpret_cast<const float *>(staged.data()),
                           outputs[port].base, static_cast<int64_t>(staged.size() / sizeof(float)));
    }
  }
}

void FastExecutor::run_region(const Stage &stage) {
  parallel_for(static_cast<size_t>(stage.slices), 1, [&](size_t begin, size_t end) {
    uint8_t *local = thread_scratch(Scratch::Region, stage.local_bytes);
    std::vector<uint8_t *> bases = bases_;
    for (size_t i = 0; i < stage.local_buffers.size(); ++i) {
      bases[static_cast<size_t>(stage.local_buffers[i])] = local + stage.local_offsets[i];
    }
    for (size_t slice = begin; slice < end; ++slice) {
      for (const auto &step : stage.steps) step->run_slice(bases.data(), static_cast<int64_t>(slice));
    }
  });
}

size_t FastExecutor::resident_bytes() const {
  size_t bytes = constants_.bytes();
  for (const Image &image : own_images_) bytes += image.values.size() * sizeof(float);
  for (const auto &staged : staged_) bytes += staged.size();
  return bytes;
}

std::string FastExecutor::counters_json() const {
  return "{\"image_conversions\": " + std::to_string(conversions_) + "}";
}

}  // namespace

}  // namespace ane::fast

namespace ane {

std::shared_ptr<const fast::Plan> make_fast_plan(std::shared_ptr<const Graph> graph, const ExecutorOptions &options) {
  return std::make_shared<const fast::Plan>(fast::make_plan(std::move(graph), options));
}

std::unique_ptr<Executor> make_fast_executor(std::shared_ptr<const fast::Plan> plan,
                                             const std::vector<ConstantPtr> &blobs) {
  return std::make_unique<fast::FastExecutor>(std::move(plan), blobs);
}

}  // namespace ane
