#include "regions.h"

namespace ane::fast {

std::vector<Region> form_regions(Draft *draft) {
  std::vector<Region> regions;
  for (size_t i = 0; i < draft->units.size(); ++i) regions.push_back({{static_cast<int>(i)}, 0, {}});
  return regions;
}

}  // namespace ane::fast
