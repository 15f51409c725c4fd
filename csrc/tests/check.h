// A test program is one .cpp that includes this: TEST(name) { CHECK(...); }. Runs all its tests, or those named as
// arguments.
#ifndef ANETRAIN_TESTS_CHECK_H
#define ANETRAIN_TESTS_CHECK_H

#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace check {

struct Test {
  const char *name;
  void (*body)();
};

inline std::vector<Test> &tests() {
  static std::vector<Test> all;
  return all;
}
inline int failures = 0;

inline bool add(const char *name, void (*body)()) {
  tests().push_back({name, body});
  return true;
}

inline void fail(const char *file, int line, const char *what) {
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
  failures++;
}

inline int run(int argc, char **argv) {
  int count = 0;
  for (const Test &test : tests()) {
    bool wanted = argc < 2;
    for (int i = 1; i < argc; i++) wanted = wanted || std::strcmp(argv[i], test.name) == 0;
    if (!wanted) continue;
    count++;
    try {
      test.body();
    } catch (const std::exception &error) {
      fail(test.name, 0, error.what());
    }
  }
  std::printf("%d tests, %d failures\n", count, failures);
  return failures > 0 || count == 0;
}

}  // namespace check

#define TEST(name)                                          \
  static void name();                                       \
  static const bool name##_added = check::add(#name, name); \
  static void name()
#define CHECK(condition) \
  if (!(condition)) check::fail(__FILE__, __LINE__, #condition)

int main(int argc, char **argv) { return check::run(argc, argv); }

#endif
