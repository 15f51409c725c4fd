// Writes JSON objects: facts, reports, tables.
#ifndef ANETRAIN_JSON_H
#define ANETRAIN_JSON_H

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace ane {

std::string json_quote(std::string_view text);
std::string json_array(const std::vector<std::string> &texts);  // of strings

// JsonObject().add("kind", "emulator").add("cores", 16).text()
class JsonObject {
 public:
  JsonObject &add(std::string_view key, std::string_view text) { return add_json(key, json_quote(text)); }
  JsonObject &add(std::string_view key, const char *text) { return add(key, std::string_view(text)); }
  JsonObject &add(std::string_view key, bool value) { return add_json(key, value ? "true" : "false"); }
  JsonObject &add(std::string_view key, double value);
  template <class Integer>
    requires std::is_integral_v<Integer>
  JsonObject &add(std::string_view key, Integer value) {
    return add_json(key, std::to_string(value));
  }
  JsonObject &add_json(std::string_view key, std::string_view json);  // a value that is JSON already
  JsonObject &merge(std::string_view object);                         // the members of another object's text
  std::string text() const { return "{" + members_ + "}"; }

 private:
  std::string members_;
};

}  // namespace ane
#endif
