// Chooses the version for this CPU, cuts the work over the threads, and walks strides.
#include "fp16.h"
#include "cpu_features.h"
#include "fp16_versions.h"
#include "threads.h"

#include <stdatomic.h>
#include <string.h>

enum {
  kGrain = 16 * 1024,              // elements that are worth a thread
  kStreamFrom = 16 * 1024 * 1024,  // bytes written, from where the target cannot stay in the caches
  kBlock = 64,                     // transposed at once: whole cache lines on both sides
  kTile = 8,                       // of it, in registers
  kBuffer = 512,                   // elements gathered before a conversion, scattered after it
};

// --- The choice ---

static const Fp16Version *const kVersions[] = {
// Best first.
#if defined(__x86_64__)
    &anecpu_fp16_avx512, &anecpu_fp16_f16c,
#elif defined(__aarch64__)
    &anecpu_fp16_neon,
#endif
    &anecpu_fp16_scalar};
enum { kVersionCount = sizeof kVersions / sizeof *kVersions };

static bool cpu_runs(const Fp16Version *version) {
#if defined(__x86_64__)
  if (version == &anecpu_fp16_avx512) return anecpu_has_avx512();
  if (version == &anecpu_fp16_f16c) return anecpu_has_avx2();
#endif
  (void)version;
  return true;
}

static _Atomic(const Fp16Version *) selected_version;

const Fp16Version *anecpu_fp16_version(void) {
  const Fp16Version *version = atomic_load_explicit(&selected_version, memory_order_acquire);
  for (size_t i = 0; !version; ++i)
    if (cpu_runs(kVersions[i])) version = kVersions[i];
  atomic_store_explicit(&selected_version, version, memory_order_release);
  return version;
}

int anecpu_fp16_select(const char *name) {
  for (size_t i = 0; i < kVersionCount; ++i) {
    if (strcmp(kVersions[i]->name, name) != 0 || !cpu_runs(kVersions[i])) continue;
    atomic_store_explicit(&selected_version, kVersions[i], memory_order_release);
    return 1;
  }
  return 0;
}

const char *anecpu_fp16_selected(void) { return anecpu_fp16_version()->name; }

// --- One job, in either direction. Pointers and strides are in bytes, so that it is written once. ---

typedef struct {
  const Fp16Version *version;
  bool to_halves, stream;
  ptrdiff_t source_size, target_size;  // of an element
  const char *source;
  char *target;
  ptrdiff_t source_row, source_column, target_row, target_column;  // strides
  size_t rows, columns;
  const int32_t *target_rows;  // where each source row goes; NULL: to the same row
} Job;

static const char *source_at(const Job *job, size_t row, size_t column) {
  return job->source + (ptrdiff_t)row * job->source_row + (ptrdiff_t)column * job->source_column;
}

static char *target_at(const Job *job, size_t row, size_t column) {
  return job->target + (ptrdiff_t)row * job->target_row + (ptrdiff_t)column * job->target_column;
}

static void convert_run(const Job *job, const void *source, void *target, size_t count) {
  if (job->to_halves)
    job->version->halves_from_floats(source, target, count, job->stream);
  else
    job->version->floats_from_halves(source, target, count, job->stream);
}

// Bodies of parallel_for.

static void part_of_one_run(void *context, size_t begin, size_t end) {
  const Job *job = context;
  convert_run(job, source_at(job, 0, begin), target_at(job, 0, begin), end - begin);
}

static void rows_as_runs(void *context, size_t begin, size_t end) {
  const Job *job = context;
  for (size_t row = begin; row < end; ++row) {
    const size_t target_row = job->target_rows ? (size_t)job->target_rows[row] : row;
    convert_run(job, source_at(job, row, 0), target_at(job, target_row, 0), job->columns);
  }
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// Three perfect shuffles of eight rows: afterwards rows[i] holds what was column i.
static void transpose_tile(const uint16_t *source, uint16_t *target) {
  typedef uint16_t Row __attribute__((vector_size(2 * kTile)));
  Row rows[kTile], shuffled[kTile];
  for (int i = 0; i < kTile; ++i) memcpy(&rows[i], source + i * kBlock, sizeof(Row));
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < kTile / 2; ++i) {
      shuffled[2 * i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      shuffled[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    memcpy(rows, shuffled, sizeof rows);
  }
  for (int i = 0; i < kTile; ++i) memcpy(target + i * kBlock, &rows[i], sizeof(Row));
}

// Up to a block's width; the usual case has a size the compiler knows.
static void copy_line(const uint16_t *source, uint16_t *target, size_t count) {
  if (count == kBlock)
    memcpy(target, source, kBlock * sizeof *target);
  else
    for (size_t i = 0; i < count; ++i) target[i] = source[i];
}

// The lines of a block of the source. They lie too far apart for the CPU to fetch them ahead of itself.
static void fetch_row(const Job *job, size_t row, size_t column) {
  if (row >= job->rows) return;
  for (size_t j = 0; j < kBlock; j += 64 / (size_t)job->source_size) {
    if (column + j < job->columns) __builtin_prefetch(source_at(job, row, column + j));
  }
}

// Source rows and target columns are contiguous. A block goes through two small buffers, so that memory on both sides
// is touched in whole cache lines, once: at power-of-two strides the lines of a block fall into few sets of the caches
// and would push each other out. Consecutive blocks follow the target.
static void transposed_blocks(void *context, size_t begin, size_t end) {
  const Job *job = context;
  const size_t blocks_down = (job->rows + kBlock - 1) / kBlock;
  uint16_t block[kBlock * kBlock] = {0}, transposed[kBlock * kBlock];
  for (size_t index = begin; index < end; ++index) {
    const size_t row = index % blocks_down * kBlock, column = index / blocks_down * kBlock;
    const size_t rows = smaller(kBlock, job->rows - row), columns = smaller(kBlock, job->columns - column);
    for (size_t i = 0; i < rows; ++i) {
      const void *source = source_at(job, row + i, column);
      fetch_row(job, row + kBlock + i, column);
      if (job->to_halves)
        convert_run(job, source, block + i * kBlock, columns);
      else
        copy_line(source, block + i * kBlock, columns);
    }
    for (size_t j = 0; j < columns; j += kTile)
      for (size_t i = 0; i < rows; i += kTile) transpose_tile(block + i * kBlock + j, transposed + j * kBlock + i);
    for (size_t j = 0; j < columns; ++j) {
      void *target = target_at(job, row, column + j);
      if (job->to_halves)
        copy_line(transposed + j * kBlock, target, rows);
      else
        convert_run(job, transposed + j * kBlock, target, rows);
    }
  }
}

static void copy_strided(const char *source, ptrdiff_t source_step, char *target, ptrdiff_t target_step, ptrdiff_t size,
                         size_t count) {
  if (size == 2)
    for (size_t i = 0; i < count; ++i, source += source_step, target += target_step)
      *(uint16_t *)target = *(const uint16_t *)source;
  else
    for (size_t i = 0; i < count; ++i, source += source_step, target += target_step)
      *(float *)target = *(const float *)source;
}

// Any strides: gathered, converted, scattered.
static void rows_through_buffers(void *context, size_t begin, size_t end) {
  const Job *job = context;
  float floats[kBuffer];
  uint16_t halves[kBuffer];
  void *const gathered = job->to_halves ? (void *)floats : halves;
  void *const converted = job->to_halves ? (void *)halves : floats;
  for (size_t row = begin; row < end; ++row) {
    for (size_t column = 0; column < job->columns; column += kBuffer) {
      const size_t count = smaller(kBuffer, job->columns - column);
      copy_strided(source_at(job, row, column), job->source_column, gathered, job->source_size, job->source_size,
                   count);
      convert_run(job, gathered, converted, count);
      copy_strided(converted, job->target_size, target_at(job, row, column), job->target_column, job->target_size,
                   count);
    }
  }
}

static void swap_axes(Job *job) {
  const Job before = *job;
  job->rows = before.columns, job->columns = before.rows;
  job->source_row = before.source_column, job->source_column = before.source_row;
  job->target_row = before.target_column, job->target_column = before.target_row;
}

static void run(Job *job) {
  if (job->rows == 0 || job->columns == 0) return;
  job->version = anecpu_fp16_version();
  const bool columns_contiguous = job->source_column == job->source_size;
  if (job->columns == 1 || (!columns_contiguous && job->source_row == job->source_size)) swap_axes(job);

  const size_t row_grain = kGrain / smaller(job->columns, kGrain);
  const ptrdiff_t columns = (ptrdiff_t)job->columns;
  const bool source_runs = job->source_column == job->source_size, target_runs = job->target_column == job->target_size;
  if (source_runs && target_runs) {
    const bool dense = job->source_row == columns * job->source_size && job->target_row == columns * job->target_size;
    if (job->rows > 1 && !dense) {
      anecpu_parallel_for(job->rows, row_grain, rows_as_runs, job);
      return;
    }
    const size_t count = job->rows * job->columns;
    job->stream = count * (size_t)job->target_size >= kStreamFrom;
    anecpu_parallel_for(count, kGrain, part_of_one_run, job);
  } else if (source_runs && job->target_row == job->target_size) {
    const size_t blocks = ((job->rows + kBlock - 1) / kBlock) * ((job->columns + kBlock - 1) / kBlock);
    anecpu_parallel_for(blocks, kGrain / (kBlock * kBlock), transposed_blocks, job);
  } else {
    anecpu_parallel_for(job->rows, row_grain, rows_through_buffers, job);
  }
}

void anecpu_halves_from_floats_2d(const float *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  uint16_t *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns) {
  run(&(Job){.to_halves = true,
             .source_size = 4,
             .target_size = 2,
             .source = (const char *)source,
             .target = (char *)target,
             .source_row = source_row_stride * 4,
             .source_column = source_column_stride * 4,
             .target_row = target_row_stride * 2,
             .target_column = target_column_stride * 2,
             .rows = rows,
             .columns = columns});
}

void anecpu_floats_from_halves_2d(const uint16_t *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  float *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns) {
  run(&(Job){.to_halves = false,
             .source_size = 2,
             .target_size = 4,
             .source = (const char *)source,
             .target = (char *)target,
             .source_row = source_row_stride * 2,
             .source_column = source_column_stride * 2,
             .target_row = target_row_stride * 4,
             .target_column = target_column_stride * 4,
             .rows = rows,
             .columns = columns});
}

typedef struct Moves {
  const AnecpuHalfMove *moves;
  uint16_t *target;
} Moves;

static void some_moves(void *context, size_t begin, size_t end) {
  const Moves *all = context;
  for (const AnecpuHalfMove *move = all->moves + begin; move < all->moves + end; ++move)
    anecpu_halves_from_floats_2d(move->source, move->source_row_stride, move->source_column_stride,
                                 all->target + move->target_begin, (ptrdiff_t)move->target_row_stride, 1, move->rows,
                                 move->columns);
}

void anecpu_halves_from_floats_many(const AnecpuHalfMove *moves, size_t count, uint16_t *target) {
  anecpu_parallel_for(count, 1, some_moves, &(Moves){moves, target});
}

static void run_rows(Job *job) {
  job->version = anecpu_fp16_version();
  anecpu_parallel_for(job->rows, kGrain / smaller(job->columns + 1, kGrain), rows_as_runs, job);
}

void anecpu_halves_from_floats_rows(const float *source, size_t source_stride, uint16_t *target, size_t target_stride,
                                    const int32_t *target_rows, size_t rows, size_t columns) {
  run_rows(&(Job){.to_halves = true,
                  .source = (const char *)source,
                  .target = (char *)target,
                  .source_row = (ptrdiff_t)source_stride * 4,
                  .target_row = (ptrdiff_t)target_stride * 2,
                  .rows = rows,
                  .columns = columns,
                  .target_rows = target_rows});
}

void anecpu_floats_from_halves_rows(const uint16_t *source, size_t source_stride, float *target, size_t target_stride,
                                    const int32_t *target_rows, size_t rows, size_t columns) {
  run_rows(&(Job){.to_halves = false,
                  .source = (const char *)source,
                  .target = (char *)target,
                  .source_row = (ptrdiff_t)source_stride * 2,
                  .target_row = (ptrdiff_t)target_stride * 4,
                  .rows = rows,
                  .columns = columns,
                  .target_rows = target_rows});
}

void anecpu_halves_from_floats(const float *source, uint16_t *target, size_t count) {
  anecpu_halves_from_floats_2d(source, (ptrdiff_t)count, 1, target, (ptrdiff_t)count, 1, 1, count);
}

void anecpu_floats_from_halves(const uint16_t *source, float *target, size_t count) {
  anecpu_floats_from_halves_2d(source, (ptrdiff_t)count, 1, target, (ptrdiff_t)count, 1, 1, count);
}
