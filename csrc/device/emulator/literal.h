// The elements of inline constants: token -> bytes of a dtype, rounded once and checked for range.
#ifndef ANETRAIN_EMULATOR_LITERAL_H
#define ANETRAIN_EMULATOR_LITERAL_H

#include "lexer.h"
#include "types.h"

namespace ane {

// Appends one element in the type of `constant`. Floating types take decimal, scientific and hex-float numbers,
// integers take decimal ones, bool takes true and false. Refuses what the type cannot hold (overflow to infinity
// included).
void append_element(const Token &token, Constant *constant);

// Digits only: an array size or a blob offset. Refuses what is above `limit`.
uint64_t unsigned_value(const Token &token, uint64_t limit, const char *what);

// A constant from text that the emulator itself wrote: defaults of arguments ("false", "0x1p-24", "[1,1]", "valid").
// `list`: rank 1, as long as the text says; else a scalar.
ConstantPtr constant_from_text(DType dtype, bool list, const std::string &text);

}  // namespace ane
#endif
