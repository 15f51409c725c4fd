// Failures inside the emulator are exceptions; the C boundary (backend.cpp) turns them into an ane_error.
#ifndef ANETRAIN_EMULATOR_ERRORS_H
#define ANETRAIN_EMULATOR_ERRORS_H

#include <exception>
#include <string>

#include "../ane.h"
#include "types.h"

namespace ane {

struct DeviceError : std::exception {
  ane_status status = ANE_COMPILE_FAILED;
  std::string domain;  // as the hardware reports it
  int64_t code = 0;
  std::string text;    // the hardware's text
  std::string detail;  // ours, for people
  std::string rule;    // profile rule, or ""
  SourcePos pos;
  const char *what() const noexcept override { return detail.c_str(); }
};

// What the compiler says of a program it refuses (ANE_FACTS 1.11). `kind`: "InvalidMILProgram" (parser and validator),
// "CompilationFailure" (parsed, could not lower), "" (the back end gave no reason).
[[noreturn]] void refuse(const std::string &kind, SourcePos pos, const std::string &detail,
                         const std::string &rule = "");
[[noreturn]] void invalid_program(SourcePos pos, const std::string &detail, const std::string &rule = "");
// A program that the engine may take but ane.h has no way to run: the error holds no words of the engine.
[[noreturn]] void unsupported(SourcePos pos, const std::string &detail);
// An evaluation that fails as "ANEProgramProcessRequestDirect() Failed with status=0x1d : statusType=0x9 : ..."
[[noreturn]] void evaluation_failed(unsigned status, unsigned status_type, const std::string &detail,
                                    const std::string &rule = "");

std::string format(const char *pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace ane
#endif
