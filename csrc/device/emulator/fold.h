// constexpr_* operations: compressed weights made dense when a program is compiled (ANE_FACTS 4.3 to 4.5).
#ifndef ANETRAIN_EMULATOR_FOLD_H
#define ANETRAIN_EMULATOR_FOLD_H

#include "ir.h"

namespace ane {

bool is_constexpr(OpKind kind);
// All arguments are constants. Values are computed exactly or in double and rounded once to the result's type.
ConstantPtr fold_constexpr(const NodeView &node);

}  // namespace ane
#endif
