"""cffi (API mode) builder of anetrain._cpu: the numerics of csrc/cpu for anetrain/cpu.py. Calls release the GIL."""

from cffi import FFI

DECLARATIONS = """
void anecpu_halves_from_floats_2d(const float *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  uint16_t *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns);
void anecpu_floats_from_halves_2d(const uint16_t *source, ptrdiff_t source_row_stride, ptrdiff_t source_column_stride,
                                  float *target, ptrdiff_t target_row_stride, ptrdiff_t target_column_stride,
                                  size_t rows, size_t columns);
int anecpu_fp16_select(const char *version);
const char *anecpu_fp16_selected(void);

void anecpu_sgemm_batched(size_t batch, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                          const float *a, size_t lda, size_t a_step, const float *b, size_t ldb, size_t b_step,
                          float beta, float *c, size_t ldc, size_t c_step);
const char *anecpu_blas_name(void);

const char *anecpu_cpu_features(void);

int anecpu_threads(void);
void anecpu_set_threads(int count);
"""

HEADERS = """
#include "cpu/blas.h"
#include "cpu/cpu_features.h"
#include "cpu/fp16.h"
#include "cpu/threads.h"
"""

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source("anetrain._cpu", HEADERS)
