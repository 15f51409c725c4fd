#include "errors.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <stdexcept>

namespace ane {
namespace {

struct Words {
  const char *text, *domain;
  int64_t code;
  ane_status status;
};

constexpr const char *kCompilerDomain = "com.apple.appleneuralengine.compiler";
constexpr const char *kEngineDomain = "com.apple.appleneuralengine";
constexpr Words kWords[] = {
    {kBackEndError, kCompilerDomain, 1, ANE_COMPILE_FAILED},  {kParserError, kCompilerDomain, 1, ANE_COMPILE_FAILED},
    {kLoweringError, kCompilerDomain, 1, ANE_COMPILE_FAILED}, {kCreateError, kEngineDomain, 4, ANE_COMPILE_FAILED},
    {kLoadError, kEngineDomain, 6, ANE_COMPILE_FAILED},       {kInferenceError, kEngineDomain, 8, ANE_EVAL_FAILED},
    {kMaskError, kEngineDomain, 6, ANE_COMPILE_FAILED},       {kModelError, kEngineDomain, 17, ANE_COMPILE_FAILED},
    {kChainingError, kEngineDomain, 15, ANE_EVAL_FAILED},     {kQosError, kEngineDomain, 26, ANE_EVAL_FAILED},
    {kProcedureError, kEngineDomain, 8, ANE_EVAL_FAILED},
};

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

std::string placed(SourcePos pos, const std::string &detail) {
  return pos.line > 0 ? format("line %d, column %d: ", pos.line, pos.column) + detail : detail;
}

std::string Breach::text() const {
  return subject + ": " + value + "; expected " + limit + (remedy.empty() ? "" : ": " + remedy);
}

DeviceError engine_error(const char *text, SourcePos pos, const std::string &detail) {
  const Words *words = std::find_if(std::begin(kWords), std::end(kWords),
                                    [&](const Words &known) { return !std::strcmp(known.text, text); });
  if (words == std::end(kWords)) throw std::logic_error(std::string("the engine never says: ") + text);
  DeviceError error;
  error.status = words->status;
  error.domain = words->domain;
  error.code = words->code;
  error.text = text;
  error.detail = placed(pos, detail);
  error.pos = pos;
  return error;
}

void invalid_program(SourcePos pos, const std::string &detail) { throw engine_error(kParserError, pos, detail); }

ane_status report_failure(const DeviceError &failure, ane_error *error) {
  ane_fail_as(error, failure.status, failure.domain.c_str(), failure.code, failure.text.c_str(), "%s",
              failure.detail.c_str());
  if (error) {
    strncpy(error->rule, failure.rule.c_str(), sizeof error->rule - 1);
    error->line = failure.pos.line;
    error->column = failure.pos.column;
  }
  return failure.status;
}

void unsupported(SourcePos pos, const std::string &detail) {
  DeviceError error;
  error.status = ANE_COMPILE_FAILED;
  error.detail = placed(pos, detail);
  error.pos = pos;
  throw error;
}

}  // namespace ane
