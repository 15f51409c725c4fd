// scaled_dot_product_attention: softmax(query key^T / sqrt(E) + mask) value.
#include <cmath>

#include "reference.h"
#include "rows.h"

namespace ane {

namespace {

// attn_mask in the shape of the scores [B..., L, S], as numbers to add; empty where there is none to apply.
std::vector<float> additive_mask(const NodeRun &run, const Shape &scores) {
  if (!run.has("attn_mask") || run.profile.on("sdpa-mask-ignored")) return {};
  const Type &type = run.type("attn_mask");
  const std::vector<int64_t> dense = row_major_strides(type.shape);
  std::vector<int64_t> steps(scores.size(), 0);
  const size_t missing = scores.size() - type.shape.size();
  for (size_t i = 0; i < type.shape.size(); ++i) steps[missing + i] = type.shape[i] == 1 ? 0 : dense[i];
  std::vector<float> mask(static_cast<size_t>(element_count(scores)));
  copy_strided(run.in("attn_mask"), steps, scores, mask.data());
  if (type.dtype == DType::Bool)  // true: attend
    for (float &value : mask) value = value != 0.0f ? 0.0f : -vmath::kInfinity;
  return mask;
}

}  // namespace

// query [B..., L, E], key [B..., S, E], value [B..., S, V] -> [B..., L, V]
void run_attention(const NodeRun &run) {
  const Shape &query = run.shape("query"), &key = run.shape("key"), &value = run.shape("value");
  const size_t rank = query.size();
  const int64_t length = query[rank - 2], features = query[rank - 1], keys = key[rank - 2], width = value[rank - 1];
  const int64_t batch = run.out_count() / (length * width);
  const float scale = 1.0f / std::sqrt(static_cast<float>(features));
  Shape all_scores = query;
  all_scores[rank - 1] = keys;
  const std::vector<float> mask = additive_mask(run, all_scores);
  // Between its steps a single operation keeps fp32, unless the engine is imitated.
  const bool rounds = run.arithmetic.rounds_inside() && run.output_type().dtype == DType::Fp16;
  const auto step = [&](float x) { return rounds ? round_to_fp16(x) : x; };
  std::vector<float> key_turned(static_cast<size_t>(features * keys)), scores(static_cast<size_t>(length * keys));
  for (int64_t b = 0; b < batch; ++b) {
    copy_strided(run.in("key") + b * keys * features, {1, features}, {features, keys}, key_turned.data());
    run.arithmetic.multiply(run, {length, keys, features, run.in("query") + b * length * features, key_turned.data(),
                                  nullptr, false, scores.data(), rounds ? DType::Fp16 : DType::Fp32});
    for (int64_t row = 0; row < length; ++row) {
      float *s = scores.data() + row * keys;
      const float *m = mask.empty() ? nullptr : mask.data() + (b * length + row) * keys;
      for (int64_t i = 0; i < keys; ++i) {
        s[i] = step(s[i] * scale);
        if (m) s[i] = step(s[i] + m[i]);
      }
      softmax_row(s, s, keys);
      for (int64_t i = 0; i < keys; ++i) s[i] = step(s[i]);
    }
    run.arithmetic.multiply(run, {length, width, keys, scores.data(), run.in("value") + b * keys * width, nullptr,
                                  false, run.out() + b * length * width, run.output_type().dtype});
  }
}

}  // namespace ane
