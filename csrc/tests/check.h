// The native tests' harness: TEST(name) { CHECK(condition); CHECK_EQ(found, expected); }, run by
// scripts/native_tests.py. A failed check is printed with its values and the test goes on; checks may fail in any
// thread.
#ifndef ANETRAIN_TESTS_CHECK_H
#define ANETRAIN_TESTS_CHECK_H

#include <atomic>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
  std::string name;  // "file.test"
  void (*run)();
};

inline std::vector<Test> &tests() {
  static std::vector<Test> all;
  return all;
}

struct Registered {
  Registered(const char *file, const char *name, void (*run)()) {
    std::string stem = file;
    stem = stem.substr(stem.rfind('/') + 1);
    stem = stem.substr(stem.find('_') + 1);  // test_fp16.cpp -> fp16
    tests().push_back({stem.substr(0, stem.find('.')) + "." + name, run});
  }
};

inline std::atomic<int> failures{0};  // of the running test

inline void fail(const char *file, int line, const std::string &text) {
  constexpr int kShown = 10;
  const int before = failures.fetch_add(1);
  if (before < kShown) std::fprintf(stderr, "%s:%d: %s\n", file, line, text.c_str());
  if (before == kShown) std::fprintf(stderr, "%s:%d: further failures are only counted\n", file, line);
}

template <class Found, class Expected>
void fail_equal(const char *file, int line, const char *what, const Found &found, const Expected &expected) {
  std::ostringstream text;
  text.precision(9);
  text << what << ": found " << found << ", expected " << expected;
  fail(file, line, text.str());
}

}  // namespace check

#define TEST(name)                                                                \
  static void test_##name();                                                      \
  static const check::Registered registered_##name(__FILE__, #name, test_##name); \
  static void test_##name()

#define CHECK(condition) \
  ((condition) ? (void)0 : check::fail(__FILE__, __LINE__, "CHECK(" #condition ") does not hold"))

#define CHECK_EQ(found, expected)                                                                 \
  do {                                                                                            \
    const auto &found_ = (found);                                                                 \
    const auto &expected_ = (expected);                                                           \
    if (!(found_ == expected_)) check::fail_equal(__FILE__, __LINE__, #found, found_, expected_); \
  } while (0)

#endif
