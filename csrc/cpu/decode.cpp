// Generation: one token through all layers. Almost all of its time goes into reading weights, which gemv does; the rest
// is kept so small that it does not show: no allocation, no array that leaves the caches but the keys and values.
#include "decode.h"

#include <algorithm>
#include <cmath>

#include "gemv.h"
#include "kernels.h"
#include "pieces.h"

using namespace ane::cpu;

namespace {

using Sizes = AnecpuDecodeSizes;
using Layer = AnecpuDecodeLayer;

size_t qkv_rows(const Sizes &s) { return (s.heads + 2 * s.kv_heads) * s.head_dim; }

// The arrays of one token, one behind the other.
struct Scratch {
  float *normal;  // [dim]
  float *change;  // [dim]: what is added to the stream
  float *qkv;     // [qkv_rows]
  float *mixed;   // [heads head_dim]: what attention makes of the values
  float *gate;    // [2 hidden]: the gate, and behind it what it lets through
  float *scores;  // [heads, capacity]

  Scratch(const Sizes &s, float *begin) : normal(begin) {
    change = normal + s.dim;
    qkv = change + s.dim;
    mixed = qkv + qkv_rows(s);
    gate = mixed + s.heads * s.head_dim;
    scores = gate + 2 * s.hidden;
  }
};

struct Token {
  const Sizes &sizes;
  size_t position;
  const float *cos, *sin;
  float *x;
  Scratch scratch;
};

// x / sqrt(mean of x^2 + eps) * gain; y may be x.
void rms_norm(const float *x, const float *gain, float eps, float *y, size_t count) {
  const double mean = kernels().sum_of_squares(x, count) / static_cast<double>(count);
  const float scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  for (size_t i = 0; i < count; ++i) y[i] = x[i] * scale * gain[i];
}

void gemv(const uint16_t *w, const float *x, float *out, size_t rows, size_t columns) {
  anecpu_gemv(w, columns, x, out, rows, columns);
}

// Norms and turns a head of q or k in place.
void prepare(const Token &t, float *head, const float *norm) {
  const size_t size = t.sizes.head_dim, half = size / 2;
  if (norm) rms_norm(head, norm, t.sizes.norm_eps, head, size);
  if (t.cos) kernels().rotate(head, head + half, t.cos, t.sin, false, head, head + half, half);
}

void remember(const Token &t, const Layer &layer, const float *k, const float *v) {
  const size_t rows = t.sizes.kv_heads * t.sizes.head_dim;
  for (size_t row = 0; row < rows; ++row) layer.keys[row * t.sizes.capacity + t.position] = k[row];
  for (size_t head = 0; head < t.sizes.kv_heads; ++head) {
    float *target = layer.values + (head * t.sizes.capacity + t.position) * t.sizes.head_dim;
    std::copy_n(v + head * t.sizes.head_dim, t.sizes.head_dim, target);
  }
}

// out = softmax(q keys / sqrt(head_dim)) values over the tokens up to this one.
void attend(const Token &t, float *q, const float *keys, const float *values, float *scores, float *out) {
  const Kernels &k = kernels();
  const size_t size = t.sizes.head_dim, count = t.position + 1;
  k.scale(q, 1.0f / std::sqrt(static_cast<float>(size)), q, size);
  k.weighted_rows(q, keys, t.sizes.capacity, size, scores, count);
  k.exp(scores, *std::max_element(scores, scores + count), scores, count);
  k.weighted_rows(scores, values, size, count, out, size);
  k.scale(out, static_cast<float>(1.0 / k.sum(scores, count)), out, size);
}

void attention(const Token &t, const Layer &layer) {
  const Sizes &s = t.sizes;
  const size_t size = s.head_dim, ratio = s.heads / s.kv_heads;
  float *q = t.scratch.qkv, *k = q + s.heads * size, *v = k + s.kv_heads * size;
  gemv(layer.qkv, t.scratch.normal, q, qkv_rows(s), s.dim);
  for (size_t head = 0; head < s.heads; ++head) prepare(t, q + head * size, layer.q_norm);
  for (size_t head = 0; head < s.kv_heads; ++head) prepare(t, k + head * size, layer.k_norm);
  remember(t, layer, k, v);
  parallel_for(s.heads, grain_of(2 * size * (t.position + 1)), [&](size_t begin, size_t end) {
    for (size_t head = begin; head < end; ++head) {
      const size_t shared = head / ratio * s.capacity * size;
      attend(t, q + head * size, layer.keys + shared, layer.values + shared, t.scratch.scores + head * s.capacity,
             t.scratch.mixed + head * size);
    }
  });
  gemv(layer.out, t.scratch.mixed, t.scratch.change, s.dim, s.heads * size);
}

void feed_forward(const Token &t, const Layer &layer) {
  const Sizes &s = t.sizes;
  float *gate = t.scratch.gate, *up = gate + s.hidden;
  gemv(layer.gate_up, t.scratch.normal, gate, 2 * s.hidden, s.dim);
  kernels().silu(gate, gate, s.hidden);
  for (size_t i = 0; i < s.hidden; ++i) gate[i] *= up[i];
  gemv(layer.down, gate, t.scratch.change, s.dim, s.hidden);
}

}  // namespace

size_t anecpu_decode_scratch(const AnecpuDecodeSizes *sizes) {
  const Sizes &s = *sizes;
  return 2 * s.dim + qkv_rows(s) + s.heads * s.head_dim + 2 * s.hidden + s.heads * s.capacity;
}

void anecpu_decode(const AnecpuDecodeSizes *sizes, const AnecpuDecodeLayer *layers, size_t layer_count, size_t position,
                   const float *cos, const float *sin, float *x, float *scratch) {
  const Token token{*sizes, position, cos, sin, x, Scratch(*sizes, scratch)};
  const auto add = [&] { kernels().add(x, token.scratch.change, sizes->residual_scale, x, sizes->dim); };
  for (const Layer *layer = layers; layer < layers + layer_count; ++layer) {
    rms_norm(x, layer->attention_norm, sizes->norm_eps, token.scratch.normal, sizes->dim);
    attention(token, *layer);
    add();
    rms_norm(x, layer->ffn_norm, sizes->norm_eps, token.scratch.normal, sizes->dim);
    feed_forward(token, *layer);
    add();
  }
}
