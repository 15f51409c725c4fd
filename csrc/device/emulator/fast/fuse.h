// Passes over a draft.
#ifndef ANETRAIN_FAST_FUSE_H
#define ANETRAIN_FAST_FUSE_H

#include "unit.h"

namespace ane::fast {

// Merges lane units wherever a value then need not go through memory, or is read once instead of twice.
void fuse_lanes(Draft *draft);

}  // namespace ane::fast
#endif
