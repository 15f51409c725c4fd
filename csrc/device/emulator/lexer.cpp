#include "lexer.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "limits.h"

namespace ane {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Length of the UTF-8 sequence at `at`, 0 when there is none: overlong forms, surrogates and cut sequences are none.
size_t utf8_length(const uint8_t *at, const uint8_t *end) {
  const uint8_t lead = at[0];
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead < 0xE0   ? 2
                        : (lead & 0xF0) == 0xE0       ? 3
                        : lead >= 0xF0 && lead < 0xF5 ? 4
                                                      : 0;
  if (length == 0 || static_cast<size_t>(end - at) < length) return 0;
  for (size_t i = 1; i < length; i++) {
    if ((at[i] & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = at[1];
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0)) return 0;
  if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second >= 0x90)) return 0;
  return length;
}

void require_utf8(const char *text, size_t bytes) {
  const auto *start = reinterpret_cast<const uint8_t *>(text);
  const uint8_t *end = start + bytes, *line_start = start;
  int line = 1;
  for (const uint8_t *at = start; at < end;) {
    const size_t length = utf8_length(at, end);
    if (length == 0) {
      invalid_program({line, static_cast<int>(at - line_start) + 1},
                      format("byte 0x%02x is not UTF-8; MIL text must be UTF-8", *at));
    }
    if (*at == '\n') {
      line++;
      line_start = at + 1;
    }
    at += length;
  }
}

}  // namespace

std::string quoted(std::string_view name) {
  constexpr size_t kShown = 80;
  if (name.size() <= kShown) return "'" + std::string(name) + "'";
  size_t cut = kShown;
  while (cut > 0 && (static_cast<uint8_t>(name[cut]) & 0xC0) == 0x80) cut--;  // not inside a UTF-8 sequence
  return "'" + std::string(name.substr(0, cut)) + "...'";
}

std::string describe(const Token &token) {
  return token.kind == TokenKind::End ? "the end of the text" : quoted(token.text);
}

Lexer::Lexer(const char *text, size_t bytes) : at_(text), end_(text + bytes), line_start_(text) {
  if (bytes > limits::kTextBytes) {
    invalid_program(
        {}, format("the text has %zu bytes, more than the %zu that are read; put large constants into blob files",
                   bytes, limits::kTextBytes));
  }
  require_utf8(text, bytes);
}

void Lexer::skip_space_and_comments() {
  while (at_ < end_) {
    if (*at_ == '\n') {
      at_++;
      line_++;
      line_start_ = at_;
    } else if (*at_ == ' ' || *at_ == '\t' || *at_ == '\r') {
      at_++;
    } else if (*at_ == '/' && end_ - at_ > 1 && at_[1] == '/') {
      at_ = std::find(at_, end_, '\n');
    } else {
      return;
    }
  }
}

Token Lexer::take(TokenKind kind, const char *end) {
  const Token token{kind, std::string_view(at_, static_cast<size_t>(end - at_)), here()};
  at_ = end;
  return token;
}

Token Lexer::string_token() {
  const char *at = at_ + 1;
  while (at < end_ && *at != '"' && *at != '\n') at += *at == '\\' && end_ - at > 1 && at[1] != '\n' ? 2 : 1;
  if (at >= end_ || *at != '"') invalid_program(here(), "this string has no closing quote on its line");
  if (static_cast<size_t>(at - at_) > limits::kStringBytes) {
    invalid_program(here(), format("this string is longer than %zu bytes", limits::kStringBytes));
  }
  return take(TokenKind::String, at + 1);
}

// Decimal, scientific and hex-float: a sign belongs to the number at its start and after its exponent letter.
const char *Lexer::end_of_number() const {
  const char *at = at_;
  if (*at == '+' || *at == '-') at++;
  const bool hex = end_ - at > 1 && at[0] == '0' && (at[1] == 'x' || at[1] == 'X');
  const char exponent = hex ? 'p' : 'e';
  while (at < end_) {
    const bool sign = (*at == '+' || *at == '-') && (at[-1] | 0x20) == exponent;
    if (!(sign || *at == '.' || is_letter(*at) || is_digit(*at))) break;
    at++;
  }
  return at;
}

Token Lexer::next() {
  skip_space_and_comments();
  if (at_ == end_) return {TokenKind::End, {}, here()};
  const char c = *at_;
  const char following = end_ - at_ > 1 ? at_[1] : '\0';
  if (is_letter(c)) {
    const char *end = std::find_if(at_, end_, [](char x) { return !is_letter(x) && !is_digit(x); });
    if (static_cast<size_t>(end - at_) > limits::kIdentifierBytes) {
      invalid_program(here(), format("this name is longer than %zu bytes", limits::kIdentifierBytes));
    }
    return take(TokenKind::Identifier, end);
  }
  if (c == '"') return string_token();
  if (c == '-' && following == '>') return take(TokenKind::Symbol, at_ + 2);
  if (is_digit(c) ||
      ((c == '-' || c == '+' || c == '.') && (is_letter(following) || is_digit(following) || following == '.'))) {
    const char *end = end_of_number();
    if (static_cast<size_t>(end - at_) > limits::kNumberBytes) {
      invalid_program(here(), format("this number has more than %zu characters", limits::kNumberBytes));
    }
    return take(TokenKind::Number, end);
  }
  if (c != '\0' && std::strchr("()[]{}<>=,;?", c)) return take(TokenKind::Symbol, at_ + 1);
  invalid_program(here(), c > ' ' && c < 0x7F ? format("unexpected character '%c'", c)
                                              : format("unexpected byte 0x%02x", static_cast<uint8_t>(c)));
}

std::string string_value(const Token &token) {
  std::string value;
  const std::string_view inside = token.text.substr(1, token.text.size() - 2);
  for (size_t i = 0; i < inside.size(); i++) {
    if (inside[i] != '\\') {
      value += inside[i];
      continue;
    }
    switch (inside[++i]) {
      case 'n': value += '\n'; break;
      case 't': value += '\t'; break;
      case 'r': value += '\r'; break;
      case '"':
      case '\'':
      case '\\': value += inside[i]; break;
      default: invalid_program(token.pos, "unknown escape in a string; known are \\n \\t \\r \\\" \\' and \\\\");
    }
  }
  return value;
}

}  // namespace ane
