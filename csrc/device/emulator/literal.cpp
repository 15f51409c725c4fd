#include "literal.h"

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

#include "../../cpu/fp16.h"
#include "errors.h"
#include "limits.h"
#include "rounding.h"

namespace ane {
namespace {

template <class T>
void append(Constant *constant, T value) {
  const auto *bytes = reinterpret_cast<const uint8_t *>(&value);
  constant->writable().insert(constant->writable().end(), bytes, bytes + sizeof value);
}

[[noreturn]] void wrong_element(const Token &token, DType dtype, const char *hint) {
  invalid_program(token.pos, format("%s is not a %s value; %s", describe(token).c_str(), dtype_name(dtype), hint));
}

// Locale-independent: a host program may have set one with a decimal comma.
double floating_value(const Token &token, DType dtype) {
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
  char text[limits::kNumberBytes + 1] = {};
  std::memcpy(text, token.text.data(), token.text.size());
  char *end = nullptr;
  const double value = strtod_l(text, &end, c_locale);
  if (end != text + token.text.size() || !std::isfinite(value)) {
    wrong_element(token, dtype,
                  "expected a finite decimal, scientific or hex-float number such as 0.5, 1e-05 or 0x1p-1");
  }
  return value;
}

void append_floating(const Token &token, Constant *constant) {
  const DType dtype = constant->type.dtype;
  const double value = floating_value(token, dtype);
  if (dtype == DType::Fp64) return append(constant, value);
  if (dtype == DType::Fp32) {
    const float rounded = static_cast<float>(value);
    if (!std::isfinite(rounded)) wrong_element(token, dtype, "it is beyond the largest finite fp32, about 3.4e38");
    return append(constant, rounded);
  }
  if (dtype == DType::BFloat16) wrong_element(token, dtype, "bf16 constants are not written inline");
  const uint16_t half = anecpu_half_from_float(round_to_odd(value));
  if ((half & 0x7C00) == 0x7C00) wrong_element(token, dtype, "the largest finite fp16 is 65504");
  append(constant, half);
}

struct IntegerRange {
  int64_t lowest;
  uint64_t highest;
};

IntegerRange range_of(DType dtype) {
  const auto bits = static_cast<unsigned>(dtype_bits(dtype));
  switch (dtype) {
    case DType::Int4:
    case DType::Int8:
    case DType::Int16:
    case DType::Int32:
    case DType::Int64:
      return {std::numeric_limits<int64_t>::min() >> (64 - bits), std::numeric_limits<uint64_t>::max() >> (65 - bits)};
    default: return {0, std::numeric_limits<uint64_t>::max() >> (64 - bits)};
  }
}

void append_integer(const Token &token, Constant *constant) {
  const DType dtype = constant->type.dtype;
  const std::string_view text = token.text;
  const bool negative = !text.empty() && text[0] == '-';
  uint64_t magnitude = 0;
  bool overflow = false;
  size_t digits = 0;
  for (const char c : text.substr(!text.empty() && (negative || text[0] == '+') ? 1 : 0)) {
    if (c < '0' || c > '9') wrong_element(token, dtype, "expected a whole decimal number");
    overflow |= __builtin_mul_overflow(magnitude, uint64_t{10}, &magnitude);
    overflow |= __builtin_add_overflow(magnitude, static_cast<uint64_t>(c - '0'), &magnitude);
    digits++;
  }
  if (digits == 0) wrong_element(token, dtype, "expected a whole decimal number");
  const IntegerRange range = range_of(dtype);
  const uint64_t limit = negative ? uint64_t{0} - static_cast<uint64_t>(range.lowest) : range.highest;
  if (overflow || magnitude > limit) {
    wrong_element(token, dtype,
                  format("expected %lld to %llu", static_cast<long long>(range.lowest),
                         static_cast<unsigned long long>(range.highest))
                      .c_str());
  }
  const uint64_t bits = negative ? uint64_t{0} - magnitude : magnitude;
  switch (dtype_bytes(dtype)) {
    case 1: return append(constant, static_cast<uint8_t>(bits));
    case 2: return append(constant, static_cast<uint16_t>(bits));
    case 4: return append(constant, static_cast<uint32_t>(bits));
    default: return append(constant, bits);
  }
}

}  // namespace

void append_element(const Token &token, Constant *constant) {
  const DType dtype = constant->type.dtype;
  switch (dtype) {
    case DType::String: {
      if (token.kind != TokenKind::String) wrong_element(token, dtype, "expected text in double quotes");
      constant->text = string_value(token);
      return;
    }
    case DType::Bool: {
      if (token.text != "true" && token.text != "false") wrong_element(token, dtype, "expected true or false");
      return append(constant, static_cast<uint8_t>(token.text == "true"));
    }
    default: break;
  }
  if (token.kind != TokenKind::Number) wrong_element(token, dtype, "expected a number");
  const bool floating =
      dtype == DType::Fp16 || dtype == DType::Fp32 || dtype == DType::Fp64 || dtype == DType::BFloat16;
  floating ? append_floating(token, constant) : append_integer(token, constant);
}

uint64_t unsigned_value(const Token &token, uint64_t limit, const char *what) {
  uint64_t value = 0;
  bool valid = token.kind == TokenKind::Number;
  for (const char c : token.text) {
    valid = valid && c >= '0' && c <= '9' && !__builtin_mul_overflow(value, uint64_t{10}, &value) &&
            !__builtin_add_overflow(value, static_cast<uint64_t>(c - '0'), &value);
  }
  if (!valid || value > limit) {
    invalid_program(token.pos, format("expected %s (a whole number up to %llu), found %s", what,
                                      static_cast<unsigned long long>(limit), describe(token).c_str()));
  }
  return value;
}

ConstantPtr constant_from_text(DType dtype, bool list, const std::string &text) {
  auto constant = std::make_shared<Constant>();
  constant->type.dtype = dtype;
  if (dtype == DType::String) {
    constant->text = text;
    return constant;
  }
  Lexer lexer(text.data(), text.size());
  int64_t count = 0;
  for (Token token = lexer.next(); token.kind != TokenKind::End; token = lexer.next()) {
    if (token.kind == TokenKind::Symbol) continue;
    append_element(token, constant.get());
    count++;
  }
  if (list) constant->type.shape = {count};
  return constant;
}

}  // namespace ane
