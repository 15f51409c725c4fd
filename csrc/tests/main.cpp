// Runs the registered tests whose "file.test" name contains the first argument (all without one).
#include <algorithm>
#include <cstdio>
#include <exception>

#include "tests/check.h"

static bool passes(const check::Test &test) {
  check::failures = 0;
  try {
    test.run();
  } catch (const std::exception &error) {
    check::fail(test.name.c_str(), 0, std::string("exception: ") + error.what());
  }
  std::printf("%s %s\n", check::failures ? "FAIL" : "ok  ", test.name.c_str());
  std::fflush(stdout);
  return check::failures == 0;
}

int main(int count, char **arguments) {
  const std::string filter = count > 1 ? arguments[1] : "";
  std::vector<check::Test> tests = check::tests();
  std::sort(tests.begin(), tests.end(), [](const auto &a, const auto &b) { return a.name < b.name; });
  int run = 0, failed = 0;
  for (const check::Test &test : tests) {
    if (test.name.find(filter) == std::string::npos) continue;
    ++run;
    if (!passes(test)) ++failed;
  }
  std::printf("%d tests, %d failed\n", run, failed);
  if (run == 0) std::fprintf(stderr, "no test has \"%s\" in its name\n", filter.c_str());
  return run == 0 || failed ? 1 : 0;
}
