// Both directions transpose: a table's rows are tokens, an activation's rows are channels. The work goes in blocks of
// kBlock x kBlock, so that whole cache lines are read and written on both sides.
#include "embedding.h"

#include <string.h>

#include "threads.h"

enum {
  kBlock = 16,  // floats in a cache line
  kTile = 4,    // of a block, in registers
  kGrain = 16 * 1024,
};

typedef struct {
  const int32_t *ids;
  float alpha;
  const float *table;  // gather
  float *out;
  const float *d;  // scatter
  float *gradient;
  size_t table_stride, line_stride;  // of the table; of the activations
  size_t channels, tokens;
} Job;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

typedef float Block[kBlock][kBlock];

// Two perfect shuffles of four rows: afterwards rows[i] holds what was column i.
static void transpose_tile(const float *source, float *target) {
  typedef float Row __attribute__((vector_size(4 * kTile)));
  Row rows[kTile], shuffled[kTile];
  for (int i = 0; i < kTile; ++i) memcpy(&rows[i], source + i * kBlock, sizeof(Row));
  for (int step = 0; step < 2; ++step) {
    for (int i = 0; i < kTile / 2; ++i) {
      shuffled[2 * i] = __builtin_shufflevector(rows[i], rows[i + 2], 0, 4, 1, 5);
      shuffled[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 2], 2, 6, 3, 7);
    }
    memcpy(rows, shuffled, sizeof rows);
  }
  for (int i = 0; i < kTile; ++i) memcpy(target + i * kBlock, &rows[i], sizeof(Row));
}

static void transpose(Block source, Block target) {
  for (int i = 0; i < kBlock; i += kTile)
    for (int j = 0; j < kBlock; j += kTile) transpose_tile(&source[i][j], &target[j][i]);
}

// Up to a block's width; the usual case has a size the compiler knows.
static void copy_line(const float *source, float *target, size_t count) {
  if (count == kBlock)
    memcpy(target, source, kBlock * sizeof *target);
  else
    memcpy(target, source, count * sizeof *target);
}

// Bodies of parallel_for, over blocks of tokens and over blocks of channels.

static void gather(void *context, size_t begin, size_t end) {
  const Job *job = context;
  Block block = {{0}}, transposed;
  for (size_t token = begin * kBlock; token < smaller(end * kBlock, job->tokens); token += kBlock) {
    const size_t tokens = smaller(kBlock, job->tokens - token);
    for (size_t channel = 0; channel < job->channels; channel += kBlock) {
      const size_t channels = smaller(kBlock, job->channels - channel);
      for (size_t t = 0; t < tokens; ++t)
        copy_line(job->table + (size_t)job->ids[token + t] * job->table_stride + channel, block[t], channels);
      transpose(block, transposed);
      for (size_t c = 0; c < channels; ++c)
        copy_line(transposed[c], job->out + (channel + c) * job->line_stride + token, tokens);
    }
  }
}

// Each channel belongs to one thread, which takes the tokens in their order.
static void scatter(void *context, size_t begin, size_t end) {
  const Job *job = context;
  Block block = {{0}}, transposed;
  for (size_t channel = begin * kBlock; channel < smaller(end * kBlock, job->channels); channel += kBlock) {
    const size_t channels = smaller(kBlock, job->channels - channel);
    for (size_t token = 0; token < job->tokens; token += kBlock) {
      const size_t tokens = smaller(kBlock, job->tokens - token);
      for (size_t c = 0; c < channels; ++c)
        copy_line(job->d + (channel + c) * job->line_stride + token, block[c], tokens);
      transpose(block, transposed);
      for (size_t t = 0; t < tokens; ++t) {
        float *row = job->gradient + (size_t)job->ids[token + t] * job->table_stride + channel;
        for (size_t c = 0; c < channels; ++c) row[c] += job->alpha * transposed[t][c];
      }
    }
  }
}

// Cuts `length` by blocks; every block has `across` elements to a line.
static void run(Job *job, void (*body)(void *, size_t, size_t), size_t length, size_t across) {
  if (length == 0 || across == 0) return;
  anecpu_parallel_for((length + kBlock - 1) / kBlock, kGrain / (kBlock * across) + 1, body, job);
}

void anecpu_embedding(const float *table, size_t table_stride, const int32_t *ids, float *out, size_t out_stride,
                      size_t channels, size_t tokens) {
  Job job = {.table = table,
             .table_stride = table_stride,
             .ids = ids,
             .out = out,
             .line_stride = out_stride,
             .channels = channels,
             .tokens = tokens};
  run(&job, gather, tokens, channels);
}

void anecpu_embedding_scatter(const int32_t *ids, float alpha, const float *d, size_t d_stride, float *table,
                              size_t table_stride, size_t channels, size_t tokens) {
  Job job = {.ids = ids,
             .alpha = alpha,
             .d = d,
             .line_stride = d_stride,
             .gradient = table,
             .table_stride = table_stride,
             .channels = channels,
             .tokens = tokens};
  run(&job, scatter, channels, tokens);
}

size_t anecpu_first_outside(const int32_t *ids, size_t count, size_t limit, const int32_t *ignored) {
  for (size_t i = 0; i < count; ++i)
    if ((ids[i] < 0 || (size_t)ids[i] >= limit) && !(ignored && ids[i] == *ignored)) return i;
  return count;
}
