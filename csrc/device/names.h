// Help for a wrong name: the nearest known one, and what is known.
#ifndef ANETRAIN_NAMES_H
#define ANETRAIN_NAMES_H

#include <string>
#include <string_view>
#include <vector>

namespace ane {

// The known name with the fewest edits, when they are few enough to be a slip; "" otherwise.
std::string nearest_name(std::string_view wrong, const std::vector<std::string> &known);
// "; did you mean 'a_x'?", or "" when nothing is near.
std::string did_you_mean(std::string_view wrong, const std::vector<std::string> &known);
// "'a_x', 'b_w'"; "none" of an empty list.
std::string quoted_list(const std::vector<std::string> &names);
// "; did you mean 'a_x'? Known: 'a_x', 'b_w'"
std::string name_help(std::string_view wrong, const std::vector<std::string> &known);

}  // namespace ane
#endif
