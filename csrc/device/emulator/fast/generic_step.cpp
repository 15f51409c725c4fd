#include "generic_step.h"

#include <stdexcept>

namespace ane::fast {
std::unique_ptr<Step> make_generic_step(const GenericUnit &unit, const GenericContext &context) {
  throw std::logic_error(std::string("fast: no ") + context.graph->nodes[unit.node].spec->name);
}
}  // namespace ane::fast
