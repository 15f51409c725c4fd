// Chooses the version for this CPU, cuts the work over the threads, and walks strides.
#include "fp16.h"
#include "cpu_features.h"
#include "fp16_versions.h"
#include "threads.h"

#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

enum {
  kGrain = 16 * 1024,              // elements that are worth a thread
  kStreamFrom = 16 * 1024 * 1024,  // bytes written, from where the target cannot stay in the caches
  kStreamMovesFrom = 1024 * 1024,  // of many blocks: they are one of several such targets, and nobody reads them soon
  kBlock = 64,                     // transposed at once: whole cache lines on both sides
  kSlab = 2048,                    // columns of kBlock rows that are read before any of them is written
  kSlabRow = kSlab + kBlock / 2,   // in memory: not a power of two, whose lines would fall into few sets of a cache
  kTile = 8,                       // of a block, in registers
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

static void convert(const Job *job, const void *source, void *target, size_t count, bool stream) {
  if (job->to_halves)
    job->version->halves_from_floats(source, target, count, stream);
  else
    job->version->floats_from_halves(source, target, count, stream);
}

// To where the job's results go.
static void convert_run(const Job *job, const void *source, void *target, size_t count) {
  convert(job, source, target, count, job->stream);
}

// To a buffer that is read at once.
static void convert_to_buffer(const Job *job, const void *source, void *buffer, size_t count) {
  convert(job, source, buffer, count, false);
}

// Before a thread says that it is done: what was written around the caches is ordered with nothing else.
static void finish_stream(const Job *job) {
#if defined(__x86_64__)
  if (job->stream) _mm_sfence();
#else
  (void)job;
#endif
}

// Bodies of parallel_for.

static void part_of_one_run(void *context, size_t begin, size_t end) {
  const Job *job = context;
  convert_run(job, source_at(job, 0, begin), target_at(job, 0, begin), end - begin);
  finish_stream(job);
}

static void rows_as_runs(void *context, size_t begin, size_t end) {
  const Job *job = context;
  for (size_t row = begin; row < end; ++row) {
    const size_t target_row = job->target_rows ? (size_t)job->target_rows[row] : row;
    convert_run(job, source_at(job, row, 0), target_at(job, target_row, 0), job->columns);
  }
  finish_stream(job);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// Three perfect shuffles of eight rows: afterwards rows[i] holds what was column i.
static void transpose_tile(const uint16_t *source, uint16_t *target) {
  typedef uint16_t Row __attribute__((vector_size(2 * kTile)));
  Row rows[kTile], shuffled[kTile];
  for (int i = 0; i < kTile; ++i) memcpy(&rows[i], source + i * kSlabRow, sizeof(Row));
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < kTile / 2; ++i) {
      shuffled[2 * i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      shuffled[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    memcpy(rows, shuffled, sizeof rows);
  }
  for (int i = 0; i < kTile; ++i) memcpy(target + i * kBlock, &rows[i], sizeof(Row));
}

// Up to a block's width; the usual case has a size the compiler knows. Only whole lines of the cache go around it:
// parts of lines would each be a write to memory.
static void copy_line(const uint16_t *source, uint16_t *target, size_t count, bool stream) {
#if defined(__x86_64__)
  if (stream && count == kBlock && (uintptr_t)target % 64 == 0) {
    for (int i = 0; i < kBlock; i += kTile)
      _mm_stream_si128((__m128i *)(target + i), _mm_loadu_si128((const __m128i *)(source + i)));
    return;
  }
#else
  (void)stream;
#endif
  if (count == kBlock)
    memcpy(target, source, kBlock * sizeof *target);
  else
    memcpy(target, source, count * sizeof *target);
}

// Reads rows x columns from (row, column) on as halves, rounded up to whole tiles with zeros.
static void read_slab(const Job *job, size_t row, size_t column, size_t rows, size_t columns,
                      uint16_t (*slab)[kSlabRow]) {
  const size_t all_rows = (rows + kTile - 1) / kTile * kTile, all_columns = (columns + kTile - 1) / kTile * kTile;
  for (size_t i = 0; i < all_rows; ++i) {
    const size_t count = i < rows ? columns : 0;
    if (count && job->to_halves)
      convert_to_buffer(job, source_at(job, row + i, column), slab[i], count);
    else if (count)
      memcpy(slab[i], source_at(job, row + i, column), count * sizeof **slab);
    memset(slab[i] + count, 0, (all_columns - count) * sizeof **slab);
  }
}

// Source rows and target columns are contiguous. Memory on both sides is touched in whole cache lines, once: a slab is
// read along its rows, which the CPU fetches ahead of itself, and written in blocks; between, it stays in the second
// level of the cache.
static void transposed_slabs(void *context, size_t begin, size_t end) {
  const Job *job = context;
  const size_t slabs_down = (job->rows + kBlock - 1) / kBlock;
  uint16_t slab[kBlock][kSlabRow], transposed[kBlock * kBlock];  // 268 KB of a stack of at least 512
  for (size_t index = begin; index < end; ++index) {
    const size_t row = index % slabs_down * kBlock, column = index / slabs_down * kSlab;
    const size_t rows = smaller(kBlock, job->rows - row), columns = smaller(kSlab, job->columns - column);
    read_slab(job, row, column, rows, columns, slab);
    for (size_t first = 0; first < columns; first += kBlock) {
      const size_t width = smaller(kBlock, columns - first);
      for (size_t j = 0; j < width; j += kTile)
        for (size_t i = 0; i < rows; i += kTile) transpose_tile(&slab[i][first + j], transposed + j * kBlock + i);
      for (size_t j = 0; j < width; ++j) {
        void *target = target_at(job, row, column + first + j);
        if (job->to_halves)
          copy_line(transposed + j * kBlock, target, rows, job->stream);
        else
          convert(job, transposed + j * kBlock, target, rows, false);
      }
    }
  }
  finish_stream(job);
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
      convert_to_buffer(job, gathered, converted, count);
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
  job->stream |= job->rows * job->columns * (size_t)job->target_size >= kStreamFrom;
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
    anecpu_parallel_for(job->rows * job->columns, kGrain, part_of_one_run, job);
  } else if (source_runs && job->target_row == job->target_size) {
    const size_t slabs = ((job->rows + kBlock - 1) / kBlock) * ((job->columns + kSlab - 1) / kSlab);
    anecpu_parallel_for(slabs, kGrain / (kBlock * smaller(job->columns, kSlab)), transposed_slabs, job);
  } else {
    anecpu_parallel_for(job->rows, row_grain, rows_through_buffers, job);
  }
}

static void run_to_halves(const float *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                          uint16_t *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride, size_t rows,
                          size_t columns, bool stream) {
  run(&(Job){.to_halves = true,
             .stream = stream,
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

void anecpu_halves_from_floats_2d(const float *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  uint16_t *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns) {
  run_to_halves(source, source_row_stride, source_column_stride, target, target_row_stride, target_column_stride, rows,
                columns, false);
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
  bool stream;
} Moves;

static void run_move(const AnecpuHalfMove *move, uint16_t *target, bool stream) {
  run_to_halves(move->source, move->source_row_stride, move->source_column_stride, target + move->target_begin,
                (ptrdiff_t)move->target_row_stride, 1, move->rows, move->columns, stream);
}

static void some_moves(void *context, size_t begin, size_t end) {
  const Moves *all = context;
  for (const AnecpuHalfMove *move = all->moves + begin; move < all->moves + end; ++move)
    run_move(move, all->target, all->stream);
}

void anecpu_halves_from_floats_many(const AnecpuHalfMove *moves, size_t count, uint16_t *target) {
  size_t elements = 0;
  for (size_t i = 0; i < count; ++i) elements += moves[i].rows * moves[i].columns;
  Moves all = {moves, target, elements * sizeof *target >= kStreamMovesFrom};
  anecpu_parallel_for(count, 1, some_moves, &all);
}

void anecpu_halves_from_floats_move(const AnecpuHalfMove *move, uint16_t *target) { run_move(move, target, true); }

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
