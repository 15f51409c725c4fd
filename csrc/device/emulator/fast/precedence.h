// What must come before what, while nodes are merged: units as they fuse, groups of units as they grow.
#ifndef ANETRAIN_FAST_PRECEDENCE_H
#define ANETRAIN_FAST_PRECEDENCE_H

#include <cstddef>
#include <set>
#include <vector>

namespace ane::fast {

class Precedence {
 public:
  // The next node, counted from 0; all of `before` are nodes already.
  void add(const std::set<int> &before);
  // Is there a way from `from` to `to` through at least one other node?
  bool indirect(int from, int to) const;
  // `node` becomes part of `target`. Neither way between them may be indirect.
  void merge(int node, int target);
  // The nodes that were not merged into others: each after all that must come before it, else by number.
  std::vector<int> order() const;

 private:
  struct Node {
    std::set<int> before, after;
    // More than that of every node before it. Searches need not look at levels beyond their two ends, so that they stay
    // short in long programs.
    int level = 0;
    bool merged_away = false;
  };
  Node &at(int node) { return nodes_[static_cast<size_t>(node)]; }
  const Node &at(int node) const { return nodes_[static_cast<size_t>(node)]; }
  int lowest_level(const Node &node) const;
  void raise_after(int node);

  std::vector<Node> nodes_;
};

}  // namespace ane::fast
#endif
