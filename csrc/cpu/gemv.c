// Cuts the rows over the threads and in groups; the instruction set is the one that fp16.c converts with.
#include "gemv.h"

#include <string.h>

#include "fp16_versions.h"
#include "gemv_versions.h"
#include "threads.h"

enum { kGrain = 64 * 1024 };  // weights that are worth a thread

typedef struct {
  GemvVersion *version;
  const uint16_t *w;
  size_t w_stride;
  const float *x;
  float *out;
  size_t rows, columns;
} Job;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static float sum_of_lanes(float lanes[kGemvLanes]) {
  for (int half = kGemvLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[half + i];
  return lanes[0];
}

// The columns that do not fill a step, with zeros behind them.
static void add_rest(const Job *job, const uint16_t *const w[kGemvRows], size_t from,
                     float sums[kGemvRows][kGemvLanes]) {
  const size_t count = job->columns - from;
  uint16_t halves[kGemvRows][kGemvLanes] = {{0}};
  float x[kGemvLanes] = {0};
  const uint16_t *rows[kGemvRows];
  for (int r = 0; r < kGemvRows; ++r) rows[r] = memcpy(halves[r], w[r] + from, count * sizeof *halves[r]);
  memcpy(x, job->x + from, count * sizeof *x);
  job->version(rows, x, 1, sums);
}

// Body of parallel_for, over groups of rows.
static void groups(void *context, size_t begin, size_t end) {
  const Job *job = context;
  const size_t steps = job->columns / kGemvLanes;
  for (size_t row = begin * kGemvRows; row < smaller(end * kGemvRows, job->rows); row += kGemvRows) {
    const size_t rows = smaller(kGemvRows, job->rows - row);
    const uint16_t *w[kGemvRows];  // the last group is filled with its last row
    for (size_t r = 0; r < kGemvRows; ++r) w[r] = job->w + (row + smaller(r, rows - 1)) * job->w_stride;
    float sums[kGemvRows][kGemvLanes] = {{0}};
    job->version(w, job->x, steps, sums);
    if (job->columns % kGemvLanes) add_rest(job, w, steps * kGemvLanes, sums);
    for (size_t r = 0; r < rows; ++r) job->out[row + r] = sum_of_lanes(sums[r]);
  }
}

void anecpu_gemv(const uint16_t *w, size_t w_stride, const float *x, float *out, size_t rows, size_t columns) {
  Job job = {anecpu_fp16_version()->gemv, w, w_stride, x, out, rows, columns};
  const size_t group = kGemvRows * (columns + 1);
  anecpu_parallel_for((rows + kGemvRows - 1) / kGemvRows, kGrain / group + 1, groups, &job);
}
