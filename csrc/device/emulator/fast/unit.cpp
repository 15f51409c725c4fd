#include "unit.h"

namespace ane::fast {

namespace {

std::vector<const View *> addresses(const std::vector<View> &views) {
  std::vector<const View *> result;
  for (const View &view : views) result.push_back(&view);
  return result;
}

}  // namespace

std::vector<const View *> LaneUnit::reads() const {
  std::vector<const View *> result;
  for (const LaneValue &value : values) {
    if (value.origin == LaneValue::Origin::Load) result.push_back(&value.view);
  }
  return result;
}

std::vector<const View *> LaneUnit::writes() const {
  std::vector<const View *> result;
  for (const LaneStore &store : stores) result.push_back(&store.view);
  return result;
}

std::vector<const View *> GenericUnit::reads() const { return addresses(inputs); }
std::vector<const View *> GenericUnit::writes() const { return addresses(outputs); }

}  // namespace ane::fast
