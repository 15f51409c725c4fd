// Regions: runs of units that all work per head (or per batch entry), run head by head so that what they pass on to
// each other stays in the cache of one thread.
#ifndef ANETRAIN_FAST_REGIONS_H
#define ANETRAIN_FAST_REGIONS_H

#include <vector>

#include "unit.h"

namespace ane::fast {

struct Region {
  std::vector<int> units;          // of the draft, in order
  int64_t slices = 0;              // 0: a single unit that runs as a whole
  std::vector<int> local_buffers;  // only used within a slice
};

// Cuts the draft's units into regions, in an order in which they can run. Units of a region get its axis in front of
// every view; local buffers are cut down to one slice.
std::vector<Region> form_regions(Draft *draft);

}  // namespace ane::fast
#endif
