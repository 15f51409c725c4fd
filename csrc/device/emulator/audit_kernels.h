// The inner loop of the audit executor: sums of products as the engine makes them. Compiled once per instruction set
// (audit_kernels.inc); all give the same bits.
#ifndef ANETRAIN_EMULATOR_AUDIT_KERNELS_H
#define ANETRAIN_EMULATOR_AUDIT_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace ane {

struct AuditRules {
  bool round_products;       // each product to fp16
  bool round_ties_up;        // the final rounding of a sum: away from zero where two fp16 values are equally near
  bool invalid_gives_zero;   // NaN products and sums become 0
  int tile;                  // > 1: products are first added in tiles of so many, in fp16
  float flush_below;         // smaller products vanish; 0: none
  float overflow_from;       // results of this magnitude and more are infinite
  float interior_from;       // partial sums of this magnitude and more spoil the result; infinity: none
  bool interior_gives_zero;  // ... to 0; else to infinity
};

struct AuditCounters {
  int64_t flushed = 0;     // products other than 0 that vanished
  int64_t overflowed = 0;  // results that became infinite
  int64_t interior = 0;    // results spoilt by a partial sum
};

// c[rows, columns] = a[rows, k] panel[k, kPanelColumns] + bias; a and c are parts of larger matrices.
struct AuditBlock {
  const float *a;
  ptrdiff_t a_step;
  const float *panel;  // columns past `columns` hold 0
  int64_t rows, columns, k;
  const float *row_bias, *column_bias;  // may be null
  float *c;
  ptrdiff_t c_step;
  bool finite;  // all of a and panel: 0 * inf cannot occur
};

constexpr int kPanelColumns = 64;

using AuditKernel = void (*)(const AuditRules &rules, const AuditBlock &block, AuditCounters *counters);

AuditKernel audit_kernel();  // the best for this CPU

void audit_block_base(const AuditRules &rules, const AuditBlock &block, AuditCounters *counters);
void audit_block_avx2(const AuditRules &rules, const AuditBlock &block, AuditCounters *counters);
void audit_block_avx512(const AuditRules &rules, const AuditBlock &block, AuditCounters *counters);

}  // namespace ane
#endif
