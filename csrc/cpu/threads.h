/* One thread pool for everything native: conversions, executors, GEMM, training numerics. */
#ifndef ANETRAIN_THREADS_H
#define ANETRAIN_THREADS_H

#include <stddef.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* Threads that work together, the caller included. Default: the CPUs this process may use. */
int anecpu_threads(void);
void anecpu_set_threads(int count);

/* Calls body(context, begin, end) over pieces that cover [0, count), each at least `grain` long, from all threads;
 * returns when all are done. A call from inside a body, or while another thread holds the pool, runs in the caller
 * alone. How a range is cut never changes results: bodies must not depend on it. */
void anecpu_parallel_for(size_t count, size_t grain, void (*body)(void *context, size_t begin, size_t end),
                         void *context);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
#ifdef __cplusplus
#include <type_traits>
/* parallel_for(n, grain, [&](size_t begin, size_t end) { ... }) */
template <class Body>
void parallel_for(size_t count, size_t grain, Body &&body) {
  using B = std::remove_reference_t<Body>;
  anecpu_parallel_for(
      count, grain, [](void *context, size_t begin, size_t end) { (*static_cast<B *>(context))(begin, end); },
      const_cast<void *>(static_cast<const void *>(&body)));
}
#endif
#endif
