#include "error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace ane {

template <size_t Size>
static void copy_text(char (&target)[Size], std::string_view source) {
  const size_t length = source.size() < Size ? source.size() : Size - 1;
  memcpy(target, source.data(), length);
  target[length] = 0;
}

void clear_error(ane_error *error) {
  if (!error) return;
  error->status = ANE_OK;
  error->code = 0;
  error->line = error->column = 0;
  for (char *text : {error->domain, error->label, error->rule, error->text, error->detail}) text[0] = 0;
}

void set_label(ane_error *error, std::string_view label) {
  if (error && !error->label[0]) copy_text(error->label, label);
}

static void fill(ane_error *error, ane_status status, const char *domain, int64_t code, const char *text,
                 const char *format, va_list arguments) {
  clear_error(error);
  error->status = status;
  error->code = code;
  copy_text(error->domain, domain ? domain : "");
  copy_text(error->text, text ? text : "");
  vsnprintf(error->detail, sizeof error->detail, format, arguments);
}

}  // namespace ane

ane_status ane_fail(ane_error *error, ane_status status, const char *detail_format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, detail_format);
  ane::fill(error, status, "", 0, "", detail_format, arguments);
  va_end(arguments);
  return status;
}

ane_status ane_fail_as(ane_error *error, ane_status status, const char *domain, int64_t code, const char *text,
                       const char *detail_format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, detail_format);
  ane::fill(error, status, domain, code, text, detail_format, arguments);
  va_end(arguments);
  return status;
}
