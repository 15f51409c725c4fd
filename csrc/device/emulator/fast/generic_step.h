// Operations that are rare enough for the reference executor's meaning, one at a time.
#ifndef ANETRAIN_FAST_GENERIC_STEP_H
#define ANETRAIN_FAST_GENERIC_STEP_H

#include "../executor.h"
#include "step.h"

namespace ane::fast {

struct GenericContext {
  std::shared_ptr<const Graph> graph;
  const ExecutorOptions &options;
};

std::unique_ptr<Step> make_generic_step(const GenericUnit &unit, const GenericContext &context);

}  // namespace ane::fast
#endif
