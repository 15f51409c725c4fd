// Failures inside the emulator are exceptions; functions of the C interface run in `emulated`, which turns them into an
// ane_error.
#ifndef ANETRAIN_EMULATOR_ERRORS_H
#define ANETRAIN_EMULATOR_ERRORS_H

#include <exception>
#include <string>

#include "../error.h"
#include "types.h"

namespace ane {

// What stands against a rule, as the parts of a sentence: "<subject>: <value>; expected <limit>: <remedy>".
struct Breach {
  SourcePos pos;
  std::string subject;  // "input 'x'", "conv 'y'", "the program"
  std::string value;    // what was found
  std::string limit;    // what the rule allows
  std::string remedy;   // what to do; "" where that is plain

  std::string text() const;
};

struct DeviceError : std::exception {
  ane_status status = ANE_COMPILE_FAILED;
  std::string domain;  // as the hardware reports it
  int64_t code = 0;
  std::string text;    // the hardware's text
  std::string detail;  // ours, for people
  std::string rule;    // profile rule, or ""
  Breach breach;       // of that rule
  SourcePos pos;
  const char *what() const noexcept override { return detail.c_str(); }
};

// The engine's own words (ANE_FACTS 1.11): its compiler, its loader, its evaluation. Where the facts have a code and no
// words, they are what the code is called there.
inline constexpr const char *kBackEndError = "_ANECompiler : ANECCompile() FAILED : err=()";  // gives no reason
inline constexpr const char *kParserError = "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)";
inline constexpr const char *kLoweringError = "_ANECompiler : ANECCompile() FAILED : err=(CompilationFailure)";
inline constexpr const char *kCreateError = "Program creation failure";
inline constexpr const char *kLoadError = "Program load failure (0x20004)";
inline constexpr const char *kMaskError = "Program load failure";
inline constexpr const char *kModelError = "Model id not found";
inline constexpr const char *kChainingError = "Program chaining prepare failure";
inline constexpr const char *kQosError = "Invalid qos";
inline constexpr const char *kProcedureError =
    "ANEProgramProcessRequestDirect() Failed with status=0x2 : statusType=0x9 : Program Inference error";
inline constexpr const char *kInferenceError =
    "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : Program Inference error";

// The failure with these words, which are one of the above: status, domain and code follow from them.
DeviceError engine_error(const char *text, SourcePos pos, const std::string &detail);
// A program whose text or blobs are wrong.
[[noreturn]] void invalid_program(SourcePos pos, const std::string &detail);
// A program that the engine may take but ane.h has no way to run: the error holds no words of the engine.
[[noreturn]] void unsupported(SourcePos pos, const std::string &detail);

ane_status report_failure(const DeviceError &failure, ane_error *error);

template <class Body>
ane_status emulated(ane_error *error, Body &&body, const Task &task = kAnyTask) {
  return guarded(
      error,
      [&]() -> ane_status {
        try {
          return body();
        } catch (const DeviceError &failure) {
          return report_failure(failure, error);
        }
      },
      task);
}

std::string placed(SourcePos pos, const std::string &detail);  // "line 3, column 7: ..."
std::string format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace ane
#endif
