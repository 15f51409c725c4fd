// Matrix products through BLAS: transposes are flags, batches are steps.
#include <utility>
#include <vector>

#include "../../../cpu/blas.h"
#include "../../../cpu/threads.h"
#include "step.h"

namespace ane::fast {

namespace {

// A matrix as BLAS sees it, and how it moves along the batch axes.
struct Operand {
  int buffer;
  int64_t offset;
  bool transposed;
  size_t leading;
  Shape steps;  // per batch axis
};

// rows x columns -> row-major, or row-major of the transpose.
Operand operand(const View &view) {
  const size_t rank = view.rank();
  const int64_t rows = view.sizes[rank - 2], columns = view.sizes[rank - 1];
  const int64_t row_step = view.strides[rank - 2], column_step = view.strides[rank - 1];
  Operand result{view.buffer, view.offset, false, 0, Shape(view.strides.begin(), view.strides.end() - 2)};
  // Of an axis with one element the step is unknown; what remains decides.
  result.transposed = columns == 1 ? row_step == 1 && rows > 1 : column_step != 1;
  if (result.transposed) {
    result.leading = static_cast<size_t>(columns == 1 ? rows : column_step);
  } else {
    result.leading = static_cast<size_t>(rows == 1 ? columns : row_step);
  }
  return result;
}

class GemmStep : public Step {
 public:
  GemmStep(const GemmUnit &unit, bool sliced);
  void run(Bases bases) const override;
  void run_slice(Bases bases, int64_t slice) const override;

 private:
  struct Pointers {
    const float *a, *b;
    float *c;
  };
  Pointers pointers(Bases bases, int64_t batch) const;
  void product(const Pointers &at) const;

  Operand a_, b_, c_;
  Shape batch_;  // sizes of the batch axes
  int64_t batches_ = 1, slices_ = 1;
  size_t m_, n_, k_;
};

// The first axis of a, b and c laid on top of the second where all three walk them as one.
bool join_first_axes(Shape *batch, Operand *a, Operand *b, Operand *c) {
  for (Operand *operand : {a, b, c}) {
    if (operand->steps[0] != operand->steps[1] * (*batch)[1]) return false;
  }
  (*batch)[1] *= (*batch)[0];
  batch->erase(batch->begin());
  for (Operand *operand : {a, b, c}) operand->steps.erase(operand->steps.begin());
  return true;
}

GemmStep::GemmStep(const GemmUnit &unit, bool sliced) {
  const size_t rank = unit.c.rank();
  m_ = static_cast<size_t>(unit.c.sizes[rank - 2]);
  n_ = static_cast<size_t>(unit.c.sizes[rank - 1]);
  k_ = static_cast<size_t>(unit.a.sizes[rank - 1]);
  a_ = operand(unit.a), b_ = operand(unit.b), c_ = operand(unit.c);
  if (c_.transposed) {  // c^T = b^T a^T
    std::swap(a_, b_);
    std::swap(m_, n_);
    a_.transposed = !a_.transposed;
    b_.transposed = !b_.transposed;
    c_.transposed = false;
  }
  batch_.assign(unit.c.sizes.begin(), unit.c.sizes.end() - 2);
  for (int64_t size : batch_) batches_ *= size;
  if (sliced) {
    slices_ = batch_[0];
    return;
  }
  for (size_t axis = batch_.size(); axis-- > 0;) {
    if (batch_[axis] != 1) continue;
    batch_.erase(batch_.begin() + static_cast<ptrdiff_t>(axis));
    for (Operand *each : {&a_, &b_, &c_}) each->steps.erase(each->steps.begin() + static_cast<ptrdiff_t>(axis));
  }
  while (batch_.size() > 1 && join_first_axes(&batch_, &a_, &b_, &c_)) {
  }
  // One b for all: the batch is more rows.
  const bool rows_follow = batch_.size() == 1 && b_.steps[0] == 0 && !a_.transposed &&
                           a_.steps[0] == static_cast<int64_t>(m_ * a_.leading) &&
                           c_.steps[0] == static_cast<int64_t>(m_ * c_.leading);
  if (rows_follow) {
    m_ *= static_cast<size_t>(batch_[0]);
    batches_ = 1;
    batch_.clear();
  }
}

GemmStep::Pointers GemmStep::pointers(Bases bases, int64_t batch) const {
  int64_t a = a_.offset, b = b_.offset, c = c_.offset;
  for (size_t axis = batch_.size(); axis-- > 0;) {
    const int64_t index = batch % batch_[axis];
    batch /= batch_[axis];
    a += index * a_.steps[axis];
    b += index * b_.steps[axis];
    c += index * c_.steps[axis];
  }
  return {floats_at(bases, a_.buffer, a), floats_at(bases, b_.buffer, b), floats_at(bases, c_.buffer, c)};
}

void GemmStep::product(const Pointers &at) const {
  anecpu_sgemm_serial(a_.transposed, b_.transposed, m_, n_, k_, 1.0f, at.a, a_.leading, at.b, b_.leading, 0.0f, at.c,
                      c_.leading);
}

void GemmStep::run(Bases bases) const {
  const Pointers first = pointers(bases, 0);
  if (batches_ == 1) {
    anecpu_sgemm(a_.transposed, b_.transposed, m_, n_, k_, 1.0f, first.a, a_.leading, first.b, b_.leading, 0.0f,
                 first.c, c_.leading);
  } else if (batch_.size() == 1) {
    anecpu_sgemm_batched(static_cast<size_t>(batches_), a_.transposed, b_.transposed, m_, n_, k_, 1.0f, first.a,
                         a_.leading, static_cast<size_t>(a_.steps[0]), first.b, b_.leading,
                         static_cast<size_t>(b_.steps[0]), 0.0f, first.c, c_.leading, static_cast<size_t>(c_.steps[0]));
  } else {
    parallel_for(static_cast<size_t>(batches_), 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) product(pointers(bases, static_cast<int64_t>(i)));
    });
  }
}

void GemmStep::run_slice(Bases bases, int64_t slice) const {
  const int64_t each = batches_ / slices_;
  for (int64_t i = slice * each; i < (slice + 1) * each; ++i) product(pointers(bases, i));
}

}  // namespace

std::unique_ptr<Step> make_gemm_step(const GemmUnit &unit, bool sliced) {
  return std::make_unique<GemmStep>(unit, sliced);
}

}  // namespace ane::fast
