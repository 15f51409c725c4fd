// anecpu_parallel_for: every index exactly once, whatever the number of threads and whoever else is calling.
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "tests/check.h"

namespace {

struct WithThreads {
  explicit WithThreads(int count) { anecpu_set_threads(count); }
  ~WithThreads() { anecpu_set_threads(0); }
};

// Runs one loop and checks coverage and the length of its pieces.
void check_coverage(size_t count, size_t grain) {
  std::unique_ptr<std::atomic<int>[]> visits(new std::atomic<int>[count + 1]());
  std::atomic<size_t> shortest{count + 1};
  parallel_for(count, grain, [&](size_t begin, size_t end) {
    CHECK(begin < end);
    CHECK(end <= count);
    size_t known = shortest.load();
    while (end - begin < known && !shortest.compare_exchange_weak(known, end - begin)) {
    }
    for (size_t i = begin; i < end; ++i) visits[i].fetch_add(1, std::memory_order_relaxed);
  });
  const bool once = std::all_of(visits.get(), visits.get() + count, [](const auto &v) { return v == 1; });
  CHECK(once);
  if (count > 0) CHECK(shortest.load() >= std::min(count, std::max<size_t>(grain, 1)));
}

}  // namespace

TEST(covers_every_index_once) {
  for (const int threads : {1, 2, 3, 8}) {
    const WithThreads with(threads);
    for (const size_t count : {0, 1, 2, 3, 7, 31, 32, 33, 1000, 4097})
      for (const size_t grain : {0, 1, 2, 5, 64, 5000}) check_coverage(count, grain);
  }
}

TEST(many_short_jobs_back_to_back) {
  const WithThreads with(4);
  std::atomic<size_t> total{0};
  for (int job = 0; job < 20000; ++job) {
    parallel_for(8, 1, [&](size_t begin, size_t end) { total.fetch_add(end - begin, std::memory_order_relaxed); });
  }
  CHECK_EQ(total.load(), 8u * 20000u);
}

TEST(an_exception_of_a_body_reaches_the_caller) {
  for (const int threads : {1, 2, 8}) {
    const WithThreads with(threads);
    for (size_t bad = 0; bad < 64; ++bad) {
      bool caught = false;
      try {
        parallel_for(64, 1, [&](size_t begin, size_t end) {
          if (begin <= bad && bad < end) throw std::bad_alloc();
        });
      } catch (const std::bad_alloc &) {
        caught = true;
      }
      CHECK(caught);
    }
    check_coverage(1000, 1);  // the pool is as before
  }
}

TEST(plain_writes_of_bodies_are_seen_by_the_caller) {
  const WithThreads with(3);
  std::vector<int> values(3000);
  for (int job = 1; job <= 200; ++job) {
    parallel_for(values.size(), 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) values[i] += job;
    });
    CHECK_EQ(std::accumulate(values.begin(), values.end(), 0L), 3000L * job * (job + 1) / 2);
  }
}

TEST(workers_help) {
  const WithThreads with(2);
  std::atomic<int> present{0};
  // Both threads must be inside at once for this to end.
  parallel_for(2, 1, [&](size_t, size_t) {
    present.fetch_add(1);
    while (present.load() < 2) std::this_thread::yield();
  });
  CHECK_EQ(present.load(), 2);
}

TEST(sleeping_workers_wake) {
  const WithThreads with(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> present{0};
    parallel_for(2, 1, [&](size_t, size_t) {
      present.fetch_add(1);
      while (present.load() < 2) std::this_thread::yield();
    });
    CHECK_EQ(present.load(), 2);
  }
}

TEST(nested_calls_run_in_the_calling_thread) {
  const WithThreads with(4);
  std::atomic<size_t> total{0};
  parallel_for(8, 1, [&](size_t begin, size_t end) {
    const std::thread::id outer = std::this_thread::get_id();
    parallel_for(100, 1, [&](size_t first, size_t last) {
      CHECK(std::this_thread::get_id() == outer);
      CHECK_EQ(last - first, 100u);
      total.fetch_add((last - first) * (end - begin));
    });
  });
  CHECK_EQ(total.load(), 800u);
}

TEST(concurrent_callers) {
  const WithThreads with(3);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([] {
      for (int job = 0; job < 300; ++job) check_coverage(static_cast<size_t>(job), 3);
    });
  }
  for (std::thread &caller : callers) caller.join();
}

TEST(thread_count_changes_at_any_time) {
  std::atomic<bool> over{false};
  std::thread changer([&] {
    for (int i = 0; !over; ++i) {
      anecpu_set_threads(1 + i % 5);
      std::this_thread::yield();
    }
  });
  for (int job = 0; job < 300; ++job) check_coverage(257, 4);
  parallel_for(64, 1, [](size_t begin, size_t) { anecpu_set_threads(2 + static_cast<int>(begin) % 2); });
  over = true;
  changer.join();
  anecpu_set_threads(5);
  CHECK_EQ(anecpu_threads(), 5);
  anecpu_set_threads(0);
  CHECK(anecpu_threads() >= 1);
}

#if !defined(__SANITIZE_THREAD__)  // it does not support new threads in a forked child
TEST(forked_child_has_its_own_pool) {
  const WithThreads with(3);
  check_coverage(1000, 1);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    check_coverage(1000, 1);
    _exit(check::failures ? 1 : 0);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  check_coverage(1000, 1);
}
#endif
