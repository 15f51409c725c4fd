// scaled_dot_product_attention.
#include "shape_rules.h"

namespace ane {

namespace {

// query [B, ..., L, E], key [B, ..., S, E], value [B, ..., S, V], attn_mask broadcast to [B, ..., L, S]
// -> [B, ..., L, V]
std::vector<Type> infer_attention(const NodeView &node) {
  for (const char *argument : {"query", "key", "value"}) require_rank(node, argument, 3, 5);
  require_one_dtype(node, {"query", "key", "value"});
  const Shape &query = node.shape("query"), &key = node.shape("key"), &value = node.shape("value");
  const size_t rank = query.size();
  Shape expected_key = query, expected_value = key;
  if (key.size() == rank) expected_key[rank - 2] = key[rank - 2];
  if (value.size() == key.size()) expected_value.back() = value.back();
  require_shape(node, "key", expected_key, "the leading axes and the features of query");
  require_shape(node, "value", expected_value, "the leading axes and the positions of key");
  if (node.has("attn_mask")) {
    const Type &mask = node.type("attn_mask");
    if (mask.dtype != DType::Bool) require_one_dtype(node, {"query", "attn_mask"});
    Shape scores = query;
    scores[rank - 1] = key[rank - 2];
    if (broadcast(node, "attn_mask", scores, mask.shape) != scores)
      wrong_argument(
          node, "attn_mask",
          "has shape " + shape_text(mask.shape) + "; expected at most " + shape_text(scores) + ", the scores");
  }
  Type result = node.type("query");
  result.shape.back() = value.back();
  return {result};
}

}  // namespace

std::vector<OpSpec> attention_ops() {
  return {{OpKind::ScaledDotProductAttention,
           "scaled_dot_product_attention",
           {tensor("query"), tensor("key"), tensor("value"), tensor("attn_mask", ArgTensor | ArgBoolTensor, false)},
           Evidence::Direct,
           "ANE_FACTS 3.3: direct MAD test_ane_sdpa5, M0",
           infer_attention,
           18}};
}

}  // namespace ane
