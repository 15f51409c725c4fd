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
#include <exception>
#include <mutex>
/* parallel_for(n, grain, [&](size_t begin, size_t end) { ... }). The first exception that a body throws, on whichever
 * thread, is thrown again here when all pieces are over; the pool itself knows no exceptions. */
template <class Body>
void parallel_for(size_t count, size_t grain, Body &&body) {
  struct Job {
    Body &body;
    std::mutex mutex;
    std::exception_ptr failure;
  };
  Job job{body, {}, {}};
  anecpu_parallel_for(
      count, grain,
      [](void *context, size_t begin, size_t end) {
        Job &job = *static_cast<Job *>(context);
        try {
          job.body(begin, end);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(job.mutex);
          if (!job.failure) job.failure = std::current_exception();
        }
      },
      &job);
  if (job.failure) std::rethrow_exception(job.failure);
}
#endif
#endif
