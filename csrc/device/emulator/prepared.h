// What does not depend on weights: the texts that a device compiled last, parsed, checked and planned.
#ifndef ANETRAIN_EMULATOR_PREPARED_H
#define ANETRAIN_EMULATOR_PREPARED_H

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "executor.h"

namespace ane {

// Of a text, under the profile and the options of its device.
struct Prepared {
  std::string text;
  int threads = 0;  // of the pool: they have a say in a plan
  std::shared_ptr<const Graph> graph;
  std::vector<std::string> warnings;       // of rules
  std::shared_ptr<const fast::Plan> plan;  // null: for another executor

  // Nothing was read of blob files, so it holds whatever they contain.
  bool holds_for_all_blobs() const;
};

// Programs whose weights are constants are compiled for every layer and after every update, from the same text and
// other blob files. An engine compiles the whole text each time; the emulator keeps what it made of it.
class PreparedTexts {
 public:
  // The latest ones, no more than these many.
  static constexpr size_t kTexts = 64;
  static constexpr size_t kTextBytes = size_t{4} << 20;  // of all; graphs and plans grow with them

  std::shared_ptr<const Prepared> find(std::string_view text, int threads);  // null: there is none
  void keep(std::shared_ptr<const Prepared> prepared);

 private:
  std::mutex mutex_;
  std::list<std::shared_ptr<const Prepared>> latest_first_;
  size_t text_bytes_ = 0;
};

}  // namespace ane
#endif
