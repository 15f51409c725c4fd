// The pool behind anecpu_parallel_for.
//
// A job is a number of pieces that caller and workers claim one by one. A worker that wakes late finds nothing left, so
// the caller never waits for a thread that has not begun: a busy machine costs speed, not latency. Idle workers spin
// briefly (back-to-back jobs then meet them ready, a fork and join costs about 2 us) and sleep after `kIdleSpin`.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using Body = void (*)(void *context, size_t begin, size_t end);
using Clock = std::chrono::steady_clock;

constexpr auto kIdleSpin = std::chrono::microseconds(200);
constexpr auto kJoinSpin = std::chrono::microseconds(50);
constexpr size_t kPiecesPerThread = 4;  // enough for a thread that was interrupted to be helped out
constexpr int kMostThreads = 256;       // a ticket holds 16 bits of pieces

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Spins until `ready()` or the time is over; the last answer of `ready()`.
template <class Ready>
bool spin(std::chrono::microseconds time, Ready ready) {
  const auto deadline = Clock::now() + time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < deadline);
  return false;
}

int cpus_of_this_process() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::clamp(CPU_COUNT(&allowed), 1, kMostThreads);
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMostThreads);
}

class Pool {
 public:
  // One caller at a time; whoever comes while it is held runs alone.
  bool try_hold() { return !held_.exchange(true, std::memory_order_acquire); }
  void release() { held_.store(false, std::memory_order_release); }

  // The rest is for the holder.
  int resize(int threads) {
    if (threads == static_cast<int>(workers_.size()) + 1) return threads;
    stop();
    start(threads - 1);
    return static_cast<int>(workers_.size()) + 1;
  }

  void run(size_t count, size_t pieces, Body body, void *context) {
    // Every piece of the job before is done, so no ticket is out that would let anybody use these fields now.
    count_.store(count, std::memory_order_relaxed);
    body_.store(body, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    publish(pieces);
    if (sleeping_.load(std::memory_order_seq_cst) > 0) wake(idle_);
    work();
    join(pieces);
  }

 private:
  // A ticket: the job's number (32 bits), its pieces (16), the next one that nobody has claimed (16).
  static uint64_t job_of(uint64_t ticket) { return ticket >> 32; }
  static size_t pieces_of(uint64_t ticket) { return ticket >> 16 & 0xffff; }
  static size_t next_of(uint64_t ticket) { return ticket & 0xffff; }

  void publish(size_t pieces) {
    const uint64_t job = job_of(ticket_.load(std::memory_order_relaxed)) + 1;
    ticket_.store(job << 32 | static_cast<uint64_t>(pieces) << 16, std::memory_order_seq_cst);
  }

  // Claims and runs pieces until none is left.
  void work() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (next_of(ticket) < pieces_of(ticket)) {
      const size_t count = count_.load(std::memory_order_relaxed);
      const Body body = body_.load(std::memory_order_relaxed);
      void *const context = context_.load(std::memory_order_relaxed);
      // Succeeds only while a piece of this job is unclaimed: then the fields above are this job's.
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      const size_t pieces = pieces_of(ticket), piece = next_of(ticket);
      const size_t share = count / pieces, longer = count % pieces;  // the first `longer` pieces have one more
      const size_t begin = piece * share + std::min(piece, longer);
      body(context, begin, begin + share + (piece < longer ? 1 : 0));
      const size_t done = done_.fetch_add(1, std::memory_order_seq_cst) + 1;
      if (done == pieces && joining_.load(std::memory_order_seq_cst)) wake(joined_);
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  void join(size_t pieces) {
    const auto finished = [&] { return done_.load(std::memory_order_seq_cst) == pieces; };
    if (spin(kJoinSpin, finished)) return;
    std::unique_lock lock(mutex_);
    joining_.store(true, std::memory_order_seq_cst);
    joined_.wait(lock, finished);
    joining_.store(false, std::memory_order_relaxed);
  }

  // Passing through the mutex makes sure that a thread between its last look and its sleep is not missed.
  void wake(std::condition_variable &condition) {
    {
      std::lock_guard lock(mutex_);
    }
    condition.notify_all();
  }

  void serve(uint64_t seen) {
    for (;;) {
      const auto called = [&] { return job_of(ticket_.load(std::memory_order_seq_cst)) != seen; };
      if (!spin(kIdleSpin, called)) {
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1, std::memory_order_seq_cst);
        idle_.wait(lock, called);
        sleeping_.fetch_sub(1, std::memory_order_relaxed);
      }
      seen = job_of(ticket_.load(std::memory_order_acquire));
      if (stopping_.load(std::memory_order_relaxed)) return;
      work();
    }
  }

  void start(int workers) {
    // Signals are for the threads of the program, above all Python's main thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const uint64_t seen = job_of(ticket_.load(std::memory_order_relaxed));
    try {
      for (int i = 0; i < workers; ++i) workers_.emplace_back([this, seen] { serve(seen); });
    } catch (const std::system_error &) {
      // The system gives no more threads: anecpu_threads() then says how many there are.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    publish(0);
    wake(idle_);
    for (std::thread &worker : workers_) worker.join();
    workers_.clear();
    stopping_.store(false, std::memory_order_relaxed);
  }

  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<size_t> done_{0};
  alignas(64) std::atomic<size_t> count_{0};
  std::atomic<Body> body_{nullptr};
  std::atomic<void *> context_{nullptr};
  std::atomic<int> sleeping_{0};
  std::atomic<bool> joining_{false}, stopping_{false}, held_{false};
  std::mutex mutex_;
  std::condition_variable idle_, joined_;
  std::vector<std::thread> workers_;
};

std::atomic<int> wanted_threads{0};  // 0: not asked for yet

// Never destroyed: workers may be in it while the process exits. A forked child has no workers and no right to the
// parent's mutex state, so it forgets the pool and makes its own at the first call.
std::atomic<Pool *> the_pool{nullptr};

Pool &pool() {
  Pool *current = the_pool.load(std::memory_order_acquire);
  if (current) return *current;
  static const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr); });
  (void)registered;  // out of memory is the only failure, and then the next line fails too
  Pool *fresh = new Pool;
  if (the_pool.compare_exchange_strong(current, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *current;
}

}  // namespace

int anecpu_threads(void) {
  const int wanted = wanted_threads.load(std::memory_order_relaxed);
  if (wanted > 0) return wanted;
  static const int automatic = cpus_of_this_process();
  return automatic;
}

void anecpu_set_threads(int count) {
  // The pool follows at its next job.
  wanted_threads.store(count < 1 ? 0 : std::min(count, kMostThreads), std::memory_order_relaxed);
}

void anecpu_parallel_for(size_t count, size_t grain, void (*body)(void *context, size_t begin, size_t end),
                         void *context) {
  if (count == 0) return;
  const int threads = anecpu_threads();
  const size_t pieces = std::min(count / std::max<size_t>(grain, 1), kPiecesPerThread * static_cast<size_t>(threads));
  Pool *const held = threads > 1 && pieces > 1 ? &pool() : nullptr;
  if (!held || !held->try_hold()) {
    body(context, 0, count);
    return;
  }
  const int ready = held->resize(threads);
  if (ready < threads) anecpu_set_threads(ready);
  held->run(count, pieces, body, context);
  held->release();
}
