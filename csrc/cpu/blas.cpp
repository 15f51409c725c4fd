// Matrix products: one thread's product from the BLAS library, cut over our own pool.
#include "blas.h"

#include <algorithm>
#include <string>

#include "threads.h"

#if defined(ANETRAIN_ACCELERATE)
#define ACCELERATE_NEW_LAPACK
#include <Accelerate/Accelerate.h>
#elif defined(ANETRAIN_OPENBLAS)
#include <cblas.h>
#endif

namespace {

struct Product {
  bool transpose_a, transpose_b;
  size_t m, n, k;
  float alpha;
  const float *a;
  size_t lda;
  const float *b;
  size_t ldb;
  float beta;
  float *c;
  size_t ldc;
};

// out[rows] = w[rows, columns] x[columns]
struct Rows {
  size_t rows, columns;
  const float *w;
  size_t w_stride;
  const float *x;
  float *out;
};

#if defined(ANETRAIN_ACCELERATE)

constexpr bool kLibraryHasThreads = true;

void run(const Product &p) {
  cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans, p.transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<int>(p.m), static_cast<int>(p.n), static_cast<int>(p.k), p.alpha, p.a,
              static_cast<int>(p.lda), p.b, static_cast<int>(p.ldb), p.beta, p.c, static_cast<int>(p.ldc));
}

void run_rows(const Rows &r) {
  cblas_sgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(r.rows), static_cast<int>(r.columns), 1.0f, r.w,
              static_cast<int>(r.w_stride), r.x, 1, 0.0f, r.out, 1);
}

#elif defined(ANETRAIN_OPENBLAS)

constexpr bool kLibraryHasThreads = false;

// Its own threads would compete with ours.
void keep_to_one_thread() {
  static const bool single = (scipy_openblas_set_num_threads(1), true);
  (void)single;
}

void run(const Product &p) {
  keep_to_one_thread();
  scipy_cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans, p.transpose_b ? CblasTrans : CblasNoTrans,
                    static_cast<int>(p.m), static_cast<int>(p.n), static_cast<int>(p.k), p.alpha, p.a,
                    static_cast<int>(p.lda), p.b, static_cast<int>(p.ldb), p.beta, p.c, static_cast<int>(p.ldc));
}

void run_rows(const Rows &r) {
  keep_to_one_thread();
  scipy_cblas_sgemv(CblasRowMajor, CblasNoTrans, static_cast<int>(r.rows), static_cast<int>(r.columns), 1.0f, r.w,
                    static_cast<int>(r.w_stride), r.x, 1, 0.0f, r.out, 1);
}

#endif

// The part of a product that computes rows [row, row + m) and columns [column, column + n) of c.
Product part(const Product &p, size_t row, size_t m, size_t column, size_t n) {
  Product cut = p;
  cut.m = m, cut.n = n;
  cut.a += p.transpose_a ? row : row * p.lda;
  cut.b += p.transpose_b ? column * p.ldb : column;
  cut.c += row * p.ldc + column;
  return cut;
}

// Where piece `index` of `pieces` begins in [0, length): at multiples of what the library's inner loops do at once.
size_t cut_at(size_t length, size_t index, size_t pieces) {
  constexpr size_t kUnit = 16;
  const size_t units = (length + kUnit - 1) / kUnit;
  return std::min(length, units * index / pieces * kUnit);
}

constexpr double kWorthThreads = 1e6;  // multiplications; below, a fork and join costs more than it brings

// The longer side of c is cut, since every piece packs the whole other factor again: once per piece, so pieces should
// be long, but beyond this length what the library packs of a piece leaves the second cache (measured: 3 to 6 %).
constexpr size_t kLongestPiece = 512;
constexpr size_t kRangesPerThread = 4;  // enough for a thread that was interrupted to be helped out

// Where range `index` of `ranges` begins among the pieces: the first ones have one more.
size_t range_at(size_t pieces, size_t index, size_t ranges) {
  return index * (pieces / ranges) + std::min(index, pieces % ranges);
}

void run_cut(const Product &p) {
  const size_t threads = static_cast<size_t>(anecpu_threads());
  const double multiplications = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  if (kLibraryHasThreads || threads == 1 || multiplications < kWorthThreads) return run(p);
  const bool by_rows = p.m >= p.n;
  const size_t length = by_rows ? p.m : p.n;
  const size_t pieces = threads * ((length + threads * kLongestPiece - 1) / (threads * kLongestPiece));
  // A sum of the library may depend on the sizes of a product. So a cut must not depend on who has the pool meanwhile,
  // and each range of pieces is one product, also where a thread runs several of them.
  const size_t ranges = std::min(pieces, kRangesPerThread * threads);
  parallel_for(ranges, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t first = cut_at(length, range_at(pieces, i, ranges), pieces);
      const size_t last = cut_at(length, range_at(pieces, i + 1, ranges), pieces);
      if (first == last) continue;
      run(by_rows ? part(p, first, last - first, 0, p.n) : part(p, 0, p.m, first, last - first));
    }
  });
}

}  // namespace

void anecpu_sgemm_serial(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                         size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
  if (m == 0 || n == 0) return;
  run({transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
}

void anecpu_sgemm(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                  size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc) {
  if (m == 0 || n == 0) return;
  run_cut({transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
}

void anecpu_sgemm_batched(size_t batch, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                          const float *a, size_t lda, size_t a_step, const float *b, size_t ldb, size_t b_step,
                          float beta, float *c, size_t ldc, size_t c_step) {
  if (m == 0 || n == 0) return;
  const auto product = [&](size_t i) {
    return Product{transpose_a, transpose_b,    m,  n, k, alpha, a + i * a_step, lda, b + i * b_step, ldb,
                   beta,        c + i * c_step, ldc};
  };
  const size_t threads = static_cast<size_t>(anecpu_threads());
  const size_t shared = batch - batch % threads;  // whole matrices, the same number for every thread
  const double multiplications = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const size_t grain = static_cast<size_t>(kWorthThreads / 2 / std::max(multiplications, 1.0)) + 1;
  parallel_for(shared, grain, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) run(product(i));
  });
  for (size_t i = shared; i < batch; ++i) run_cut(product(i));  // the rest together, one after the other
}

void anecpu_sgemv(const float *w, size_t w_stride, const float *x, float *out, size_t rows, size_t columns) {
  if (rows == 0) return;
  const auto cut = [&](size_t begin, size_t end) {
    run_rows({end - begin, columns, w + begin * w_stride, w_stride, x, out + begin});
  };
  if (kLibraryHasThreads) return cut(0, rows);
  constexpr size_t kGrain = 64 * 1024;  // weights that are worth a thread
  parallel_for(rows, kGrain / (columns + 1) + 1, cut);
}

const char *anecpu_blas_name(void) {
#if defined(ANETRAIN_ACCELERATE)
  return "Accelerate";
#elif defined(ANETRAIN_OPENBLAS)
  static const std::string name = [] {
    const std::string config = scipy_openblas_get_config();  // "OpenBLAS 0.3.34 USE64BITINT DYNAMIC_ARCH ..."
    const size_t version_end = config.find(' ', config.find(' ') + 1);
    return config.substr(0, version_end) + " " + scipy_openblas_get_corename();
  }();
  return name.c_str();
#endif
}
