// MIL text (both dialects, ANE_FACTS 3.1 and 3.2) -> syntax tree.
#ifndef ANETRAIN_EMULATOR_PARSER_H
#define ANETRAIN_EMULATOR_PARSER_H

#include "syntax.h"

namespace ane {

// With `fp32`, the type fp16 is read as fp32 wherever it is written (FrontendOptions::fp32). Throws DeviceError.
ProgramSyntax parse_program(const char *text, size_t bytes, bool fp32);

}  // namespace ane
#endif
