// A graph made ready to run: stages in order, and where every buffer stands. Nothing in it changes when it runs, and
// programs of one text share it.
#ifndef ANETRAIN_FAST_PLAN_H
#define ANETRAIN_FAST_PLAN_H

#include <memory>
#include <vector>

#include "../executor.h"
#include "step.h"

namespace ane::fast {

// One step on all threads, or a region: several steps of which every thread runs all, slice by slice.
struct Stage {
  std::vector<std::unique_ptr<Step>> steps;
  int64_t slices = 0;              // 0: no region
  std::vector<int> local_buffers;  // temporaries of one slice: every thread has its own
  std::vector<size_t> local_offsets;
  size_t local_bytes = 0;
};

struct Plan {
  std::vector<DType> input_types, output_types;  // by port
  std::vector<Buffer> buffers;
  std::vector<size_t> offsets;  // of temporaries, in the arena
  size_t arena_bytes = 0;
  std::vector<Stage> stages;
};

Plan make_plan(std::shared_ptr<const Graph> graph, const ExecutorOptions &options);

}  // namespace ane::fast
#endif
