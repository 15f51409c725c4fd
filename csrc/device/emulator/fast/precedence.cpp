#include "precedence.h"

#include <algorithm>
#include <stdexcept>

namespace ane::fast {

int Precedence::lowest_level(const Node &node) const {
  int level = 0;
  for (int earlier : node.before) level = std::max(level, at(earlier).level + 1);
  return level;
}

void Precedence::add(const std::set<int> &before) {
  const int added = static_cast<int>(nodes_.size());
  nodes_.emplace_back().before = before;
  for (int earlier : before) at(earlier).after.insert(added);
  at(added).level = lowest_level(at(added));
}

bool Precedence::indirect(int from, int to) const {
  const int floor = at(from).level;
  std::set<int> seen;
  std::vector<int> open{to};
  while (!open.empty()) {
    const int node = open.back();
    open.pop_back();
    for (int earlier : at(node).before) {
      if (earlier == from && node != to) return true;
      if (at(earlier).level > floor && seen.insert(earlier).second) open.push_back(earlier);
    }
  }
  return false;
}

void Precedence::merge(int node, int target) {
  Node &gone = at(node), &merged = at(target);
  for (int earlier : gone.before) {
    at(earlier).after.erase(node);
    if (earlier == target) continue;
    at(earlier).after.insert(target);
    merged.before.insert(earlier);
  }
  for (int later : gone.after) {
    at(later).before.erase(node);
    if (later == target) continue;
    at(later).before.insert(target);
    merged.after.insert(later);
  }
  gone = Node{};
  gone.merged_away = true;
  merged.level = lowest_level(merged);
  raise_after(target);
}

void Precedence::raise_after(int node) {
  std::vector<int> raised{node};
  while (!raised.empty()) {
    const Node &earlier = at(raised.back());
    raised.pop_back();
    for (int later : earlier.after) {
      if (at(later).level > earlier.level) continue;
      at(later).level = earlier.level + 1;
      raised.push_back(later);
    }
  }
}

std::vector<int> Precedence::order() const {
  std::vector<size_t> waiting;
  std::set<int> ready;
  size_t left = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    waiting.push_back(nodes_[i].before.size());
    if (nodes_[i].merged_away) continue;
    ++left;
    if (waiting[i] == 0) ready.insert(static_cast<int>(i));
  }
  std::vector<int> order;
  while (!ready.empty()) {
    const int next = *ready.begin();
    ready.erase(ready.begin());
    for (int later : at(next).after) {
      if (--waiting[static_cast<size_t>(later)] == 0) ready.insert(later);
    }
    order.push_back(next);
  }
  if (order.size() != left) throw std::logic_error("merging made nodes that wait for each other");
  return order;
}

}  // namespace ane::fast
