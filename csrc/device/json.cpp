#include "json.h"

#include <cmath>
#include <cstdio>

namespace ane {

std::string json_quote(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string json_array(const std::vector<std::string> &texts) {
  std::string array = "[";
  for (const std::string &text : texts) array += (array.size() > 1 ? ", " : "") + json_quote(text);
  return array + "]";
}

JsonObject &JsonObject::add(std::string_view key, double value) {
  char number[40];
  snprintf(number, sizeof number, "%.17g", value);
  return add_json(key, std::isfinite(value) ? number : "null");
}

JsonObject &JsonObject::add_json(std::string_view key, std::string_view json) {
  if (!members_.empty()) members_ += ", ";
  members_ += json_quote(key);
  members_ += ": ";
  members_ += json;
  return *this;
}

JsonObject &JsonObject::merge(std::string_view object) {
  const size_t open = object.find('{'), close = object.rfind('}');
  if (open == object.npos || close == object.npos || close < open) return *this;
  std::string_view inside = object.substr(open + 1, close - open - 1);
  if (inside.find_first_not_of(" \t\r\n") == inside.npos) return *this;
  if (!members_.empty()) members_ += ", ";
  members_ += inside;
  return *this;
}

}  // namespace ane
