#include "prepared.h"

#include <algorithm>

namespace ane {

bool Prepared::holds_for_all_blobs() const {
  return std::all_of(graph->blobs.begin(), graph->blobs.end(),
                     [](const ConstantPtr &constant) { return constant->unread() != nullptr; });
}

std::shared_ptr<const Prepared> PreparedTexts::find(std::string_view text, int threads) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(latest_first_.begin(), latest_first_.end(), [&](const auto &prepared) {
    return prepared->threads == threads && prepared->text == text;
  });
  if (found == latest_first_.end()) return nullptr;
  latest_first_.splice(latest_first_.begin(), latest_first_, found);
  return latest_first_.front();
}

void PreparedTexts::keep(std::shared_ptr<const Prepared> prepared) {
  const std::lock_guard lock(mutex_);
  text_bytes_ += prepared->text.size();
  latest_first_.push_front(std::move(prepared));
  while (latest_first_.size() > kTexts || text_bytes_ > kTextBytes) {
    text_bytes_ -= latest_first_.back()->text.size();
    latest_first_.pop_back();
  }
}

}  // namespace ane
