// The matrix products against a triple loop in double.
#include "cpu/blas.h"
#include "cpu/threads.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tests/check.h"

namespace {

struct Case {
  bool transpose_a, transpose_b;
  size_t m, n, k;
  float alpha, beta;
  size_t padding;  // between the rows of every matrix
};

struct Matrices {
  size_t lda, ldb, ldc, a_size, b_size, c_size;  // of one product
  std::vector<float> a, b, c;

  Matrices(const Case &p, size_t a_count, size_t b_count, size_t c_count) {
    lda = (p.transpose_a ? p.m : p.k) + p.padding;
    ldb = (p.transpose_b ? p.k : p.n) + p.padding;
    ldc = p.n + p.padding;
    a_size = lda * (p.transpose_a ? p.k : p.m);
    b_size = ldb * (p.transpose_b ? p.n : p.k);
    c_size = ldc * p.m;
    std::mt19937 random(static_cast<unsigned>(p.m * 7919 + p.n * 104729 + p.k));
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (const auto &[values, count] :
         {std::pair{&a, a_size * a_count}, {&b, b_size * b_count}, {&c, c_size * c_count}}) {
      values->resize(count);
      for (float &value : *values) value = uniform(random);
    }
    // With beta 0 the old values must not be read.
    if (p.beta == 0.0f) std::fill(c.begin(), c.end(), std::numeric_limits<float>::quiet_NaN());
  }
};

bool same(float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); }

// `found` and `before` point to one product's result and to what was there before.
void check_product(const Case &p, const Matrices &s, const float *a, const float *b, const float *before,
                   const float *found) {
  for (size_t i = 0; i < p.m; ++i) {
    for (size_t j = 0; j < s.ldc; ++j) {
      const float old = before[i * s.ldc + j], value = found[i * s.ldc + j];
      if (j >= p.n) {
        CHECK(same(value, old));  // the padding stays
        continue;
      }
      double sum = 0, magnitude = 0;
      for (size_t l = 0; l < p.k; ++l) {
        const double x = a[p.transpose_a ? l * s.lda + i : i * s.lda + l];
        const double y = b[p.transpose_b ? j * s.ldb + l : l * s.ldb + j];
        sum += x * y;
        magnitude += std::fabs(x * y);
      }
      const double expected = p.alpha * sum + (p.beta == 0.0f ? 0.0 : double{p.beta} * old);
      const double allowed = 1e-7 * (std::sqrt(static_cast<double>(p.k)) + 8) * (magnitude + 1);
      if (!(std::fabs(value - expected) <= allowed)) {
        const std::string what = "c[" + std::to_string(i) + "," + std::to_string(j) + "] of " + std::to_string(p.m) +
                                 "x" + std::to_string(p.k) + "x" + std::to_string(p.n);
        check::fail_equal(__FILE__, __LINE__, what.c_str(), value, expected);
      }
    }
  }
}

template <class Run>
void for_every_case(const std::vector<std::array<size_t, 3>> &shapes, Run run) {
  for (const auto &[m, n, k] : shapes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const auto &[alpha, beta] : {std::pair{1.0f, 0.0f}, {1.0f, 1.0f}, {-0.5f, 0.25f}})
          for (const size_t padding : {0, 3}) run(Case{transpose_a, transpose_b, m, n, k, alpha, beta, padding});
}

struct WithThreads {
  explicit WithThreads(int count) { anecpu_set_threads(count); }
  ~WithThreads() { anecpu_set_threads(0); }
};

}  // namespace

TEST(products) {
  for (const int threads : {1, 2, 3}) {
    const WithThreads with(threads);
    for_every_case(
        {{1, 1, 1}, {1, 7, 5}, {7, 1, 5}, {17, 33, 9}, {64, 64, 64}, {129, 65, 257}, {9, 1100, 120}, {1100, 9, 120}},
        [](const Case &p) {
          Matrices s(p, 1, 1, 1);
          const std::vector<float> before = s.c;
          anecpu_sgemm(p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.alpha, s.a.data(), s.lda, s.b.data(), s.ldb,
                       p.beta, s.c.data(), s.ldc);
          check_product(p, s, s.a.data(), s.b.data(), before.data(), s.c.data());
        });
  }
}

TEST(batched_products) {
  for (const int threads : {1, 2, 3}) {
    const WithThreads with(threads);
    for (const size_t batch : {0, 1, 5, 12}) {
      for (const auto &[a_shared, b_shared] : {std::pair{false, false}, {true, false}, {false, true}}) {
        for_every_case({{3, 4, 5}, {64, 48, 33}, {120, 100, 90}}, [&](const Case &p) {
          if (p.padding && p.m == 120) return;
          Matrices s(p, a_shared ? 1 : batch, b_shared ? 1 : batch, batch);
          const std::vector<float> before = s.c;
          const size_t a_step = a_shared ? 0 : s.a_size, b_step = b_shared ? 0 : s.b_size;
          anecpu_sgemm_batched(batch, p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.alpha, s.a.data(), s.lda, a_step,
                               s.b.data(), s.ldb, b_step, p.beta, s.c.data(), s.ldc, s.c_size);
          for (size_t i = 0; i < batch; ++i)
            check_product(p, s, s.a.data() + i * a_step, s.b.data() + i * b_step, before.data() + i * s.c_size,
                          s.c.data() + i * s.c_size);
        });
      }
    }
  }
}

TEST(empty_products) {
  std::vector<float> c = {1, 2, 3, 4, 5, 6};
  anecpu_sgemm(false, false, 2, 3, 0, 1.0f, nullptr, 1, nullptr, 3, 0.5f, c.data(), 3);
  CHECK(c == std::vector<float>({0.5f, 1, 1.5f, 2, 2.5f, 3}));
  anecpu_sgemm(false, false, 0, 3, 2, 1.0f, nullptr, 2, c.data(), 3, 0.0f, c.data(), 3);
  anecpu_sgemm(false, false, 2, 0, 2, 1.0f, c.data(), 2, nullptr, 1, 0.0f, c.data(), 1);
  CHECK_EQ(c[0], 0.5f);
}

TEST(serial_products_inside_a_parallel_loop) {
  const WithThreads with(3);
  const Case p{false, true, 40, 30, 50, 1.0f, 0.0f, 0};
  Matrices s(p, 1, 1, 9);
  parallel_for(9, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      anecpu_sgemm_serial(p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.alpha, s.a.data(), s.lda, s.b.data(), s.ldb,
                          p.beta, s.c.data() + i * s.c_size, s.ldc);
  });
  for (size_t i = 0; i < 9; ++i)
    check_product(p, s, s.a.data(), s.b.data(), s.c.data() + i * s.c_size, s.c.data() + i * s.c_size);
}

TEST(whoever_has_the_pool_meanwhile) {
  const WithThreads with(3);
  for_every_case({{40, 1100, 120}, {1100, 40, 120}, {130, 113, 97}}, [](const Case &p) {
    if (p.beta != 0.0f) return;
    Matrices s(p, 1, 1, 2);
    const auto product = [&](size_t number) {
      anecpu_sgemm(p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.alpha, s.a.data(), s.lda, s.b.data(), s.ldb, p.beta,
                   s.c.data() + number * s.c_size, s.ldc);
    };
    product(0);
    parallel_for(2, 1, [&](size_t begin, size_t) {  // a body has the pool, so products in it run alone
      if (begin == 0) product(1);
    });
    bool equal = true;
    for (size_t i = 0; i < s.c_size; ++i) equal = equal && same(s.c[i], s.c[s.c_size + i]);
    CHECK(equal);
  });
}

TEST(the_library_names_itself) { CHECK(std::string(anecpu_blas_name()).size() > 3); }
