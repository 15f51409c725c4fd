// Cuts the rows over the threads; the instruction set is the one that fp16.c converts with. One row at a time, so that
// memory is read in one stream: several beside each other are half as fast where rows are short.
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
  size_t columns;
} Job;

// Body of parallel_for, over rows.
static void rows(void *context, size_t begin, size_t end) {
  const Job *job = context;
  const size_t steps = job->columns / kGemvLanes, done = steps * kGemvLanes, left = job->columns - done;
  GemvRest rest = {{0}, {0}};
  if (left) memcpy(rest.x, job->x + done, left * sizeof *rest.x);
  for (size_t row = begin; row < end; ++row) {
    const uint16_t *w = job->w + row * job->w_stride;
    if (left) memcpy(rest.w, w + done, left * sizeof *rest.w);
    job->out[row] = job->version(w, job->x, steps, left ? &rest : NULL);
  }
}

void anecpu_gemv(const uint16_t *w, size_t w_stride, const float *x, float *out, size_t row_count, size_t columns) {
  Job job = {anecpu_fp16_version()->gemv, w, w_stride, x, out, columns};
  anecpu_parallel_for(row_count, kGrain / (columns + 1) + 1, rows, &job);
}
