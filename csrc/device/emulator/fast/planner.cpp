// The passes in their order, and from units to steps.
#include <algorithm>

#include "arena.h"
#include "fuse.h"
#include "generic_step.h"
#include "lower.h"
#include "plan.h"
#include "regions.h"

namespace ane::fast {

namespace {

std::unique_ptr<Step> make_step(const Unit &unit, const Draft &draft, bool sliced, const GenericContext &context) {
  switch (unit.kind) {
    case UnitKind::Lanes: return make_lane_step(static_cast<const LaneUnit &>(unit), draft, sliced);
    case UnitKind::Gemm: return make_gemm_step(static_cast<const GemmUnit &>(unit), sliced);
    case UnitKind::Conv: return make_conv_step(static_cast<const ConvUnit &>(unit));
    case UnitKind::Generic: break;
  }
  return make_generic_step(static_cast<const GenericUnit &>(unit), context);
}

size_t buffer_bytes(const Buffer &buffer) { return static_cast<size_t>(buffer.count) * sizeof(float); }

// A copy of a buffer that nobody else reads stands in its place: rounding the sums of a product, mostly.
std::vector<int> shared_places(const Draft &draft, const std::vector<std::vector<int>> &readers) {
  std::vector<int> place(draft.buffers.size());
  for (size_t i = 0; i < place.size(); ++i) place[i] = static_cast<int>(i);
  for (const auto &unit : draft.units) {
    if (unit->kind != UnitKind::Lanes) continue;
    const LaneUnit &lanes = static_cast<const LaneUnit &>(*unit);
    if (!lanes.ops.empty() || lanes.values.size() != 1) continue;
    const View &from = lanes.values[0].view;
    if (readers[static_cast<size_t>(from.buffer)].size() != 1) continue;
    if (draft.buffers[static_cast<size_t>(from.buffer)].storage != Storage::Temporary) continue;
    for (const LaneStore &store : lanes.stores) {
      const Buffer &to = draft.buffers[static_cast<size_t>(store.view.buffer)];
      const bool same_place = to.storage == Storage::Temporary && store.view.offset == from.offset &&
                              store.view.strides == from.strides &&
                              to.count == draft.buffers[static_cast<size_t>(from.buffer)].count;
      if (same_place) place[static_cast<size_t>(store.view.buffer)] = place[static_cast<size_t>(from.buffer)];
    }
  }
  return place;
}

void place_temporaries(const Draft &draft, const std::vector<Region> &regions, Plan *plan) {
  std::vector<Lifetime> lives(draft.buffers.size());
  std::vector<std::vector<int>> readers(draft.buffers.size());
  for (const auto &unit : draft.units) {
    for (const View *view : unit->reads()) readers[static_cast<size_t>(view->buffer)].push_back(0);
  }
  const std::vector<int> place_of = shared_places(draft, readers);
  for (size_t stage = 0; stage < regions.size(); ++stage) {
    const auto touch = [&](const View *view) {
      if (draft.buffers[static_cast<size_t>(view->buffer)].storage != Storage::Temporary) return;
      Lifetime &life = lives[static_cast<size_t>(place_of[static_cast<size_t>(view->buffer)])];
      if (life.first < 0) life.first = static_cast<int>(stage);
      life.last = static_cast<int>(stage);
      life.bytes = std::max(life.bytes, buffer_bytes(draft.buffers[static_cast<size_t>(view->buffer)]));
    };
    for (int unit : regions[stage].units) {
      for (const View *view : draft.units[static_cast<size_t>(unit)]->reads()) touch(view);
      for (const View *view : draft.units[static_cast<size_t>(unit)]->writes()) touch(view);
    }
  }
  for (const Region &region : regions) {
    for (int buffer : region.local_buffers) lives[static_cast<size_t>(buffer)] = {};
  }
  plan->offsets = place(lives, &plan->arena_bytes);
  for (size_t i = 0; i < place_of.size(); ++i) plan->offsets[i] = plan->offsets[static_cast<size_t>(place_of[i])];
}

// Which parts of the images of inputs are needed.
void note_image_reads(Draft *draft) {
  for (const auto &unit : draft->units) {
    for (const View *view : unit->reads()) {
      Buffer &buffer = draft->buffers[static_cast<size_t>(view->buffer)];
      if (buffer.storage == Storage::InputImage) buffer.read.push_back(footprint(*view));
    }
  }
}

std::vector<DType> types_of(const Graph &graph, const std::vector<int> &ports) {
  std::vector<DType> types;
  for (int id : ports) types.push_back(graph.values[static_cast<size_t>(id)].type.dtype);
  return types;
}

}  // namespace

Plan make_plan(std::shared_ptr<const Graph> graph, const ExecutorOptions &options) {
  Draft draft = Lowering(*graph, *options.profile).run();
  fuse_lanes(&draft);
  const std::vector<Region> regions = form_regions(&draft);
  note_image_reads(&draft);

  Plan plan;
  plan.input_types = types_of(*graph, graph->inputs);
  plan.output_types = types_of(*graph, graph->outputs);
  place_temporaries(draft, regions, &plan);
  const GenericContext context{graph, options};
  for (const Region &region : regions) {
    Stage stage;
    stage.slices = region.slices;
    for (int unit : region.units) {
      stage.steps.push_back(make_step(*draft.units[static_cast<size_t>(unit)], draft, region.slices > 0, context));
    }
    for (int buffer : region.local_buffers) {
      stage.local_buffers.push_back(buffer);
      stage.local_offsets.push_back(stage.local_bytes);
      stage.local_bytes += (buffer_bytes(draft.buffers[static_cast<size_t>(buffer)]) + 63) / 64 * 64;
    }
    plan.stages.push_back(std::move(stage));
  }
  plan.buffers = std::move(draft.buffers);
  return plan;
}

}  // namespace ane::fast
