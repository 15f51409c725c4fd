// Two lane units made one.
#ifndef ANETRAIN_FAST_MERGE_H
#define ANETRAIN_FAST_MERGE_H

#include <memory>

#include "unit.h"

namespace ane::fast {

// `first` runs before `second`, and nothing outside the two stands between them. Null where they do not fit: other
// domains, other reduced axes, or the second reads what the first writes at another place of the domain.
std::unique_ptr<LaneUnit> merge(const LaneUnit &first, const LaneUnit &second);

// Removes axes of size one and splits axes until the domain is `finer`, a refinement of it.
void refine(LaneUnit *unit, const Shape &finer);

}  // namespace ane::fast
#endif
