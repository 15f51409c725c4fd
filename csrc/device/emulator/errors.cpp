#include "errors.h"

#include <cstdarg>
#include <cstdio>

namespace ane {
namespace {

constexpr const char *kCompilerDomain = "com.apple.appleneuralengine.compiler";
constexpr const char *kEngineDomain = "com.apple.appleneuralengine";
constexpr int64_t kCompileCode = 1;
constexpr int64_t kTimeoutCode = 3;  // status 0xf (ANE_FACTS 1.11)
constexpr int64_t kInferenceCode = 8;
constexpr unsigned kTimeoutStatus = 0xf;

}  // namespace

std::string format(const char *pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, pattern, arguments);
  va_end(arguments);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  return text;
}

static std::string placed(SourcePos pos, const std::string &detail) {
  return pos.line > 0 ? format("line %d, column %d: ", pos.line, pos.column) + detail : detail;
}

void refuse(const std::string &kind, SourcePos pos, const std::string &detail, const std::string &rule) {
  DeviceError error;
  error.status = ANE_COMPILE_FAILED;
  error.domain = kCompilerDomain;
  error.code = kCompileCode;
  error.text = "_ANECompiler : ANECCompile() FAILED : err=(" + kind + ")";
  error.detail = placed(pos, detail);
  error.rule = rule;
  error.pos = pos;
  throw error;
}

void invalid_program(SourcePos pos, const std::string &detail, const std::string &rule) {
  refuse("InvalidMILProgram", pos, detail, rule);
}

void unsupported(SourcePos pos, const std::string &detail) {
  DeviceError error;
  error.status = ANE_COMPILE_FAILED;
  error.detail = placed(pos, detail);
  error.pos = pos;
  throw error;
}

void evaluation_failed(unsigned status, unsigned status_type, const std::string &detail, const std::string &rule) {
  DeviceError error;
  error.status = ANE_EVAL_FAILED;
  error.domain = kEngineDomain;
  error.code = status == kTimeoutStatus ? kTimeoutCode : kInferenceCode;
  error.text =
      format("ANEProgramProcessRequestDirect() Failed with status=0x%x : statusType=0x%x : Program Inference error",
             status, status_type);
  error.detail = detail;
  error.rule = rule;
  throw error;
}

}  // namespace ane
