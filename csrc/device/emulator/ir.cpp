#include "ir.h"

#include <cstring>
#include <stdexcept>

#include "errors.h"

namespace ane {
namespace {

const Constant &constant_of(const NodeView &node, const char *argument) {
  const Value &value = node.value(argument);
  if (!value.constant) {
    throw std::logic_error(std::string(node.node().spec->name) + ": '" + argument + "' is not a constant");
  }
  return *value.constant;
}

}  // namespace

const Argument *NodeView::find(const char *argument) const {
  for (const Argument &candidate : node_.arguments) {
    if (std::strcmp(candidate.name, argument) == 0) return &candidate;
  }
  return nullptr;
}

bool NodeView::has(const char *argument) const { return find(argument) != nullptr; }

const std::vector<int> &NodeView::ids(const char *argument) const {
  const Argument *found = find(argument);
  if (!found) throw std::logic_error(std::string(node_.spec->name) + ": no argument '" + argument + "'");
  return found->values;
}

int NodeView::id(const char *argument) const { return ids(argument).at(0); }
const Value &NodeView::value(const char *argument) const { return graph_.values[id(argument)]; }
const Type &NodeView::type(const char *argument) const { return value(argument).type; }
const Shape &NodeView::shape(const char *argument) const { return type(argument).shape; }
bool NodeView::is_constant(const char *argument) const { return value(argument).constant != nullptr; }

bool NodeView::boolean(const char *argument) const { return constant_of(*this, argument).integer(0) != 0; }
int64_t NodeView::integer(const char *argument) const { return constant_of(*this, argument).integer(0); }
double NodeView::number(const char *argument) const { return constant_of(*this, argument).number(0); }
const std::string &NodeView::text(const char *argument) const { return constant_of(*this, argument).text; }

std::vector<int64_t> NodeView::integers(const char *argument) const {
  const Constant &constant = constant_of(*this, argument);
  std::vector<int64_t> values(static_cast<size_t>(constant.count()));
  for (size_t i = 0; i < values.size(); i++) values[i] = constant.integer(static_cast<int64_t>(i));
  return values;
}

int64_t NodeView::axis(const char *argument, int rank) const {
  const int64_t written = integer(argument);
  if (written < -rank || written >= rank) {
    invalid_program(node_.pos,
                    format("'%s': %s = %lld is outside of a tensor of rank %d (expected %d to %d)", node_.spec->name,
                           argument, static_cast<long long>(written), rank, -rank, rank - 1));
  }
  return written < 0 ? written + rank : written;
}

}  // namespace ane
