// Graph -> draft: every node becomes a view, or a unit of work that writes a buffer of its own.
#ifndef ANETRAIN_FAST_LOWER_H
#define ANETRAIN_FAST_LOWER_H

#include <memory>
#include <optional>
#include <vector>

#include "../profile.h"
#include "unit.h"

namespace ane::fast {

class Lowering {
 public:
  Lowering(const Graph &graph, const Profile &profile);
  Draft run();

 private:
  // How a value comes to be, as far as writing it somewhere else needs to know.
  struct Origin {
    enum class Kind : uint8_t { Elsewhere, Lanes, Reshape, Permute, Concat } kind = Kind::Elsewhere;
    LaneUnit *unit = nullptr;  // Lanes
    int lane_value = -1;
    std::vector<int> parents;          // Reshape, Permute: one; Concat: its parts
    std::vector<int64_t> permutation;  // Permute
    size_t axis = 0;                   // Concat
  };
  struct LaneInput {
    View view;
    std::optional<float> scalar;
    bool rounds = false;
  };

  void lower(const NodeView &node);

  // lower.cpp: values and where they stand
  const Value &value(int id) const { return graph_.values[static_cast<size_t>(id)]; }
  bool is_half(int id) const { return value(id).type.dtype == DType::Fp16; }
  View read(int id);          // where the value can be read; whoever reads a raw buffer rounds
  View read_rounded(int id);  // never a raw buffer
  void set_place(int id, View view) { places_[static_cast<size_t>(id)] = std::move(view); }
  void set_alias(int id, View view, Origin origin);
  View new_buffer(const Shape &sizes);  // a dense temporary
  View copied(const View &view);        // into a dense temporary
  View reshaped_or_copied(const View &view, const Shape &shape);
  void add_home(int id, const View &home);  // makes whatever computes the value write it to `home` too
  void lower_generic(const NodeView &node);

  // lower_layout.cpp
  bool lower_layout(const NodeView &node);
  void lower_reshape(int from, int to);
  void lower_transpose(const NodeView &node);
  void lower_slice(const NodeView &node);
  void lower_split(const NodeView &node);
  void lower_concat(const NodeView &node);

  // lower_lanes.cpp
  bool lower_lanes(const NodeView &node);
  bool lower_rows(const NodeView &node);
  LaneInput lane_input(int id, const Shape &sizes);
  LaneInput lane_input(const View &view);
  LaneUnit *add_lane_unit(const Shape &domain, const std::vector<LaneInput> &inputs);
  int add_lane_node(LaneUnit *unit, LaneNode node);
  void place_lanes(int id, LaneUnit *unit, int lane_value);
  void finish_lanes(int id, LaneUnit *unit, LaneNode node);
  void saturate(int id, const View &x, float limit);
  void store(LaneUnit *unit, int lane_value, const View &view);
  void copy(const View &from, const View &to);

  // lower_products.cpp
  bool lower_products(const NodeView &node);
  bool lower_matmul(const NodeView &node);
  bool lower_linear(const NodeView &node);
  bool lower_einsum(const NodeView &node);
  bool lower_conv(const NodeView &node);
  bool lower_attention(const NodeView &node);
  View floats(View view);            // of an fp16 surface: its fp32 image
  View as_matrix(const View &view);  // floats, a unit stride among the last two axes
  View matrix(int id) { return as_matrix(read_rounded(id)); }
  View new_product(int id, const Shape &sizes);
  View product_for_consumers(int id, const Shape &sizes);
  void add_bias(int id, const View &sums, const View &bias);
  void add_gemm(const View &a, const View &b, const View &c);

  const Graph &graph_;
  const Profile &profile_;
  Draft draft_;
  std::vector<std::optional<View>> places_;  // by value
  std::vector<Origin> origins_;              // by value
  std::vector<std::vector<int>> consumers_;  // by value: nodes
  std::vector<int> rounded_;                 // by buffer: the rounded copy of a raw one, or -1
  std::vector<int> images_;                  // by input port: buffer of its image, or -1
};

}  // namespace ane::fast
#endif
