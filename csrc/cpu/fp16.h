/* fp16 <-> fp32, bit-equal on every machine: nearest even, overflow to infinity, NaN quieted with its top payload bits.
 * The best version for this CPU is chosen once (AVX-512, F16C, NEON, scalar). */
#ifndef ANETRAIN_FP16_H
#define ANETRAIN_FP16_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

uint16_t anecpu_half_from_float(float value);
float anecpu_float_from_half(uint16_t value);

/* Contiguous; threaded above a size where that pays. */
void anecpu_halves_from_floats(const float *source, uint16_t *target, size_t count);
void anecpu_floats_from_halves(const uint16_t *source, float *target, size_t count);

/* rows x columns with strides in elements; either side may be transposed (row stride 1) or cropped. */
void anecpu_halves_from_floats_2d(const float *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  uint16_t *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns);
void anecpu_floats_from_halves_2d(const uint16_t *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  float *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns);

/* Row r goes to row target_rows[r]: a permutation of the rows. Each row is contiguous; strides are from row to row. */
void anecpu_halves_from_floats_rows(const float *source, size_t source_stride, uint16_t *target, size_t target_stride,
                                    const int32_t *target_rows, size_t rows, size_t columns);
void anecpu_floats_from_halves_rows(const uint16_t *source, size_t source_stride, float *target, size_t target_stride,
                                    const int32_t *target_rows, size_t rows, size_t columns);

/* One block of floats that goes to a place of its own; strides and the place are in elements. */
typedef struct AnecpuHalfMove {
  const float *source;
  ptrdiff_t source_row_stride, source_column_stride;
  size_t target_begin, target_row_stride;
  size_t rows, columns;
} AnecpuHalfMove;

/* Many blocks at once, each on one thread: for blocks that are small, or best cut into such. */
void anecpu_halves_from_floats_many(const AnecpuHalfMove *moves, size_t count, uint16_t *target);

/* One of them, in the calling thread, around the caches: for a target that nobody reads soon. */
void anecpu_halves_from_floats_move(const AnecpuHalfMove *move, uint16_t *target);

/* For tests: "scalar", "f16c", "avx512", "neon". 0 when this CPU cannot. */
int anecpu_fp16_select(const char *version);
const char *anecpu_fp16_selected(void);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#endif
