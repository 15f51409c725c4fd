// The host numerics with every set of kernels this machine has, over small and odd sizes: the instruction sets agree to
// the last bit, Accelerate nearly. tests/test_cpu_*.py compare the best set with float64.
#include "cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cpu/activations.h"
#include "cpu/decode.h"
#include "cpu/fp16.h"
#include "cpu/norms.h"
#include "cpu/rope.h"
#include "cpu/rows.h"
#include "cpu/threads.h"
#include "tests/check.h"

namespace {

using Floats = std::vector<float>;

// Rows of `columns` values with nothing after the last, so that a sanitizer sees a step too far.
struct Array {
  size_t rows, columns, step;
  Floats values;

  Array(size_t rows_, size_t columns_, size_t gap, unsigned seed)
      : rows(rows_), columns(columns_), step(columns_ + gap), values(rows > 0 ? rows * step - gap : 0) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float &value : values) value = normal(random);
  }
  const float *data() const { return values.data(); }
  float *data() { return values.data(); }
};

struct Inputs {
  size_t channels, tokens;
  Array x, dy, cos, sin;
  Floats gain, bias;

  Inputs(size_t channels_, size_t tokens_, size_t gap)
      : channels(channels_),
        tokens(tokens_),
        x(channels, tokens, gap, 1),
        dy(channels, tokens, gap, 2),
        cos(channels / 2, tokens, gap, 3),
        sin(channels / 2, tokens, gap, 4),
        gain(Array(1, channels, 0, 5).values),
        bias(Array(1, channels, 0, 6).values) {}
  Array output() const { return Array(channels, tokens, x.step - tokens, 7); }
};

// What a function wrote, one array after the other.
using Results = std::vector<Floats>;
using Function = std::function<Results(const Inputs &)>;

Results rms_norm(const Inputs &in) {
  Array y = in.output(), dx = in.output();
  Floats rrms(in.tokens), dgain = in.bias;
  anecpu_rms_norm(in.channels, in.tokens, in.x.data(), in.x.step, in.gain.data(), 1e-5f, y.data(), y.step, rrms.data());
  anecpu_rms_norm_backward(in.channels, in.tokens, in.dy.data(), in.dy.step, in.x.data(), in.x.step, in.gain.data(),
                           rrms.data(), dx.data(), dx.step, dgain.data(), 0.5f);
  return {y.values, rrms, dx.values, dgain};
}

Results layer_norm(const Inputs &in) {
  Array y = in.output(), dx = in.output();
  Floats mean(in.tokens), rstd(in.tokens), dgain = in.bias, dbias = in.gain;
  anecpu_layer_norm(in.channels, in.tokens, in.x.data(), in.x.step, in.gain.data(), in.bias.data(), 1e-2f, y.data(),
                    y.step, mean.data(), rstd.data());
  anecpu_layer_norm_backward(in.channels, in.tokens, in.dy.data(), in.dy.step, in.x.data(), in.x.step, in.gain.data(),
                             mean.data(), rstd.data(), dx.data(), dx.step, dgain.data(), dbias.data(), 0.5f);
  return {y.values, mean, rstd, dx.values, dgain, dbias};
}

// One head of all channels, or heads of two.
Results rope(const Inputs &in) {
  if (in.channels % 2) return {};
  Results results;
  for (const size_t heads : {size_t{1}, in.channels / 2}) {
    for (const bool interleaved : {false, true}) {
      for (const bool backwards : {false, true}) {
        Array y = in.output(), in_place = in.x;
        for (const auto &[from, to] : {std::pair{&in.x, &y}, {&std::as_const(in_place), &in_place}})
          anecpu_rope(heads, in.channels / heads, in.tokens, from->data(), from->step, in.cos.data(), in.cos.step,
                      in.sin.data(), in.sin.step, interleaved, backwards, to->data(), to->step);
        for (size_t c = 0; c < in.channels; ++c)
          CHECK(!std::memcmp(&y.values[c * y.step], &in_place.values[c * y.step], in.tokens * sizeof(float)));
        results.push_back(y.values);
      }
    }
  }
  return results;
}

Results activations(const Inputs &in) {
  Results results;
  const auto forward = [&](auto function, auto... mode) {
    Array y = in.output();
    function(mode..., in.channels, in.tokens, in.x.data(), in.x.step, y.data(), y.step);
    results.push_back(y.values);
  };
  const auto backward = [&](auto function, auto... mode) {
    Array dx = in.output();
    function(mode..., in.channels, in.tokens, in.dy.data(), in.dy.step, in.x.data(), in.x.step, dx.data(), dx.step);
    results.push_back(dx.values);
  };
  forward(anecpu_silu);
  backward(anecpu_silu_backward);
  for (const bool exact : {false, true}) {
    forward(anecpu_gelu, exact);
    backward(anecpu_gelu_backward, exact);
  }
  return results;
}

Results rows(const Inputs &in) {
  Array sum = in.output(), unscaled = in.output(), scaled = in.output();
  Floats sums = in.gain, dots = in.bias, one(1, 0.0f);
  const Array &x = in.x, &dy = in.dy;
  anecpu_add(x.rows, x.columns, x.data(), x.step, dy.data(), dy.step, 0.3f, sum.data(), sum.step);
  anecpu_add(x.rows, x.columns, x.data(), x.step, dy.data(), dy.step, 1.0f, unscaled.data(), unscaled.step);
  anecpu_scale(x.rows, x.columns, x.data(), x.step, 0.3f, scaled.data(), scaled.step);
  anecpu_row_sum(x.rows, x.columns, x.data(), x.step, 0.5f, sums.data(), sums.size());
  anecpu_row_dot(x.rows, x.columns, x.data(), x.step, dy.data(), dy.step, 0.5f, dots.data(), dots.size());
  anecpu_row_sum(x.rows, x.columns, x.data(), x.step, 0.5f, one.data(), 1);
  const Floats most = {anecpu_largest(x.values.size(), x.data()), anecpu_largest(x.columns, x.data())};
  return {sum.values, unscaled.values, scaled.values, sums, dots, one, most};
}

// Two layers with grouped queries, over up to 20 tokens.
Results decode(const Inputs &in) {
  const size_t dim = in.channels, head_dim = 2 * dim, capacity = std::min<size_t>(in.tokens, 20);
  const AnecpuDecodeSizes sizes = {dim, dim + 1, 4, 2, head_dim, capacity, 1e-5f, 0.5f};
  std::vector<std::vector<uint16_t>> matrices;
  const auto matrix = [&](size_t rows, size_t columns) {
    std::vector<uint16_t> &m = matrices.emplace_back(rows * columns);
    for (size_t i = 0; i < m.size(); ++i)
      m[i] = anecpu_half_from_float(in.dy.values[(i * 7 + matrices.size()) % in.dy.values.size()] * 0.3f);
    return m.data();
  };
  const Floats head_gain(head_dim, 0.7f);
  Results caches(4, Floats(2 * head_dim * capacity));
  std::vector<AnecpuDecodeLayer> layers;
  for (size_t i = 0; i < 2; ++i)
    layers.push_back({in.gain.data(), in.bias.data(), head_gain.data(), head_gain.data(), matrix(8 * head_dim, dim),
                      matrix(dim, 4 * head_dim), matrix(2 * (dim + 1), dim), matrix(dim, dim + 1), caches[2 * i].data(),
                      caches[2 * i + 1].data()});
  Floats scratch(anecpu_decode_scratch(&sizes)), cos(dim), sin(dim);
  Results results;
  for (size_t t = 0; t < capacity; ++t) {
    Floats &x = results.emplace_back(dim);
    for (size_t c = 0; c < dim; ++c) x[c] = in.x.values[c * in.x.step + t];
    for (size_t i = 0; i < dim; ++i)
      cos[i] = std::cos(static_cast<float>(t * i)), sin[i] = std::sin(static_cast<float>(t * i));
    anecpu_decode(&sizes, layers.data(), layers.size(), t, cos.data(), sin.data(), x.data(), scratch.data());
    for (const float value : x) CHECK(std::isfinite(value));
  }
  results.insert(results.end(), caches.begin(), caches.end());
  return results;
}

float largest(const Floats &values) {
  float most = 0;
  for (float value : values) most = std::max(most, std::fabs(value));
  return most;
}

void compare(const char *kernels, const Floats &found, const Floats &expected) {
  if (std::string(kernels) != "accelerate") {
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
    return;
  }
  const float bound = 5e-6f * std::max(largest(expected), 1.0f);
  for (size_t i = 0; i < found.size(); ++i) CHECK(std::fabs(found[i] - expected[i]) <= bound);
}

// `function` with each set of kernels and with more threads, against the plain lanes in one thread.
void check_all(const Function &function) {
  for (const auto &[channels, tokens] : std::vector<std::pair<size_t, size_t>>{
           {1, 1}, {2, 1}, {1, 3}, {7, 5}, {6, 33}, {34, 64}, {98, 67}, {5, 1025}, {4, 5000}}) {
    const Inputs inputs(channels, tokens, tokens % 4);
    anecpu_set_threads(1);
    CHECK(ane::cpu::select_kernels("base"));
    const Results expected = function(inputs);
    for (const char *kernels : {"base", "avx2", "avx512", "accelerate"}) {
      if (!ane::cpu::select_kernels(kernels)) continue;
      for (const int threads : {1, 3}) {
        anecpu_set_threads(threads);
        const Results found = function(inputs);
        CHECK_EQ(found.size(), expected.size());
        for (size_t i = 0; i < found.size(); ++i) compare(kernels, found[i], expected[i]);
      }
    }
  }
  anecpu_set_threads(0);
  CHECK(ane::cpu::select_kernels(nullptr));
}

// The same problem with one token only.
Inputs token_of(const Inputs &all, size_t token) {
  Inputs one(all.channels, 1, 0);
  for (const auto &[from, to] :
       {std::pair{&all.x, &one.x}, {&all.dy, &one.dy}, {&all.cos, &one.cos}, {&all.sin, &one.sin}})
    for (size_t row = 0; row < from->rows; ++row) to->values[row] = from->values[row * from->step + token];
  return one;
}

}  // namespace

// Single floats and vectors of each width agree.
TEST(a_token_alone_is_what_it_is_among_others) {
  constexpr size_t kChannels = 6, kTokens = 101;
  const Inputs inputs(kChannels, kTokens, 0);
  for (const Function &function : {Function(rms_norm), Function(layer_norm), Function(rope), Function(activations)}) {
    for (const char *kernels : {"base", "avx2", "avx512"}) {
      if (!ane::cpu::select_kernels(kernels)) continue;
      const Results all = function(inputs);
      for (size_t t = 0; t < kTokens; ++t) {
        const Results one = function(token_of(inputs, t));
        for (size_t i = 0; i < all.size(); ++i) {
          if (all[i].size() != kChannels * kTokens) continue;  // a sum over tokens
          for (size_t c = 0; c < kChannels; ++c) CHECK_EQ(one[i][c], all[i][c * kTokens + t]);
        }
      }
    }
  }
  CHECK(ane::cpu::select_kernels(nullptr));
}

TEST(rms_norm) { check_all(rms_norm); }
TEST(layer_norm) { check_all(layer_norm); }
TEST(rope) { check_all(rope); }
TEST(activations) { check_all(activations); }
TEST(rows) { check_all(rows); }
TEST(decode) { check_all(decode); }

TEST(unknown_kernels_are_refused) {
  CHECK(!ane::cpu::select_kernels("mmx"));
  CHECK(ane::cpu::select_kernels(nullptr));
}
