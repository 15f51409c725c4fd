#include "names.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace ane {

// Levenshtein, without regard to case, one row at a time.
static size_t edit_distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); j++) {
      const size_t substituted = diagonal + (lower(a[i]) != lower(b[j]));
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string nearest_name(std::string_view wrong, const std::vector<std::string> &known) {
  wrong = wrong.substr(0, 128);
  std::string best;
  size_t fewest = wrong.size() / 3 + 2;
  for (const std::string &name : known) {
    const size_t edits = edit_distance(wrong, name);
    if (edits < fewest && edits < std::max(name.size(), wrong.size())) {
      fewest = edits;
      best = name;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view wrong, const std::vector<std::string> &known) {
  const std::string nearest = nearest_name(wrong, known);
  return nearest.empty() ? "" : "; did you mean '" + nearest + "'?";
}

std::string quoted_list(const std::vector<std::string> &names) {
  std::string list;
  for (const std::string &name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list.empty() ? "none" : list;
}

std::string name_help(std::string_view wrong, const std::vector<std::string> &known) {
  const std::string help = did_you_mean(wrong, known);
  return (help.empty() ? "." : help) + " Known: " + quoted_list(known);
}

}  // namespace ane
