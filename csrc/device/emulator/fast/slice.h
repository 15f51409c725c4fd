// A unit seen as `slices` equal, independent parts: an axis of that size in front of every view.
#ifndef ANETRAIN_FAST_SLICE_H
#define ANETRAIN_FAST_SLICE_H

#include <memory>
#include <vector>

#include "unit.h"

namespace ane::fast {

// How many matrices the unit multiplies that one axis can count; 1 for units that cannot be sliced by matrices.
int64_t matrix_count(const Unit &unit);

// Every way to cut the unit into `slices`.
std::vector<std::unique_ptr<Unit>> sliced_forms(const Unit &unit, int64_t slices);

}  // namespace ane::fast
#endif
