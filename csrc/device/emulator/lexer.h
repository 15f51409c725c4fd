// MIL text -> tokens. Works on the text in place; a token is a piece of it.
#ifndef ANETRAIN_EMULATOR_LEXER_H
#define ANETRAIN_EMULATOR_LEXER_H

#include <string>
#include <string_view>

#include "types.h"

namespace ane {

enum class TokenKind : uint8_t { End, Identifier, Number, String, Symbol };

struct Token {
  TokenKind kind = TokenKind::End;
  std::string_view text;  // a string with its quotes; a symbol is one character, or "->"
  SourcePos pos;          // columns count bytes
};

class Lexer {
 public:
  // Refuses text that is not UTF-8 or longer than limits::kTextBytes.
  Lexer(const char *text, size_t bytes);
  Token next();

 private:
  SourcePos here() const { return {line_, static_cast<int>(at_ - line_start_) + 1}; }
  void skip_space_and_comments();
  Token take(TokenKind kind, const char *end);
  Token string_token();
  const char *end_of_number() const;

  const char *at_;
  const char *end_;
  const char *line_start_;
  int line_ = 1;
};

// The token for an error message: "'name'", "the end of the text".
std::string describe(const Token &token);
// A name for an error message, in quotes and cut when it is very long.
std::string quoted(std::string_view name);
// The content of a String token, escapes resolved.
std::string string_value(const Token &token);

}  // namespace ane
#endif
