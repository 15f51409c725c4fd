// Filling ane_error, and the wall that keeps exceptions inside.
#ifndef ANETRAIN_ERROR_H
#define ANETRAIN_ERROR_H

#include <exception>
#include <new>
#include <string_view>

#include "backend.h"

namespace ane {

// Cheap: only what a reader looks at first is reset, because evaluate does this every time.
void clear_error(ane_error *error);
void set_label(ane_error *error, std::string_view label);

// What a function of ane.h does, and the status when there is no memory for it. Not ANE_UNAVAILABLE where the device
// is as good as before.
struct Task {
  const char *doing;
  ane_status out_of_memory;
};
constexpr Task kAnyTask{"using the device", ANE_UNAVAILABLE};
constexpr Task kCreateSurface{"creating a surface", ANE_SURFACE_ERROR};
constexpr Task kCompile{"compiling a program", ANE_COMPILE_FAILED};
constexpr Task kCheck{"checking a program", ANE_COMPILE_FAILED};
constexpr Task kEvaluate{"evaluating a program", ANE_EVAL_FAILED};

// Runs the body of one function of ane.h: clears `error`, and turns whatever is thrown into a status.
template <class Body>
ane_status guarded(ane_error *error, Body &&body, const Task &task = kAnyTask) noexcept {
  clear_error(error);
  try {
    return body();
  } catch (const std::bad_alloc &) {
    return ane_fail(error, task.out_of_memory, "out of memory while %s", task.doing);
  } catch (const std::exception &problem) {
    return ane_fail(error, ANE_UNAVAILABLE, "a bug in anetrain: %s", problem.what());
  } catch (...) {
    return ane_fail(error, ANE_UNAVAILABLE, "a bug in anetrain: an exception of an unknown type");
  }
}

}  // namespace ane
#endif
