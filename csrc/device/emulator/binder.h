// The arguments of one statement, bound to what its operation takes.
#ifndef ANETRAIN_EMULATOR_BINDER_H
#define ANETRAIN_EMULATOR_BINDER_H

#include <functional>

#include "ir.h"
#include "syntax.h"

namespace ane {

// Finds the operation; an unknown one is refused with the nearest name, or with what to do instead.
const OpSpec &require_op(const Statement &statement);

struct BindContext {
  const Graph &graph;
  // Value id of an operand: a name in scope, or a new constant. `name` is what a new constant is called.
  std::function<int(const Operand &operand, const std::string &name)> resolve;
  std::function<int(const std::string &name, SourcePos pos, ConstantPtr constant)> add_constant;
  bool fp32;  // FrontendOptions::fp32
};

// Names, presence, kinds and types of the arguments; defaults filled in. Arguments come out in the order of the OpSpec.
Node bind(const Statement &statement, const OpSpec &spec, const BindContext &context);

}  // namespace ane
#endif
