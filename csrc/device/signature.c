/* Reads `func NAME<OPSET>(TYPE a, ...) { TYPE b = op(...)[...]; ... } -> (b, ...);` and nothing else of a MIL text. */
#include "signature.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"

enum {
  MAX_PORTS = 255,    /* per side: what a request of the framework takes */
  ROW_ALIGNMENT = 64, /* bytes */
};
static const uint64_t MAX_PORT_BYTES = (uint64_t)1 << 40;

/* ---- tokens ---- */

typedef enum { END, NAME, NUMBER, TEXT, ARROW, PUNCTUATION } token_kind;

typedef struct {
  const char *at, *end; /* what is left of the text */
  const char *line_start;
  int line;
  /* the current token */
  token_kind kind;
  const char *start;
  size_t length;
  int token_line, token_column;
  ane_error *error;
} reader;

static ane_status bad(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static ane_status bad(reader *r, const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  ane_status status =
      ane_fail(r->error, ANE_COMPILE_FAILED, "line %d, column %d: %s", r->token_line, r->token_column, message);
  if (r->error) {
    r->error->line = r->token_line;
    r->error->column = r->token_column;
  }
  return status;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c); }

static void skip_space(reader *r) {
  while (r->at < r->end) {
    if (is_space(*r->at)) {
      if (*r->at == '\n') {
        r->line++;
        r->line_start = r->at + 1;
      }
      r->at++;
    } else if (r->end - r->at >= 2 && r->at[0] == '/' && r->at[1] == '/') {
      while (r->at < r->end && *r->at != '\n') r->at++;
    } else {
      return;
    }
  }
}

static void skip_string(reader *r) {
  r->at++;
  while (r->at < r->end && *r->at != '"') {
    if (*r->at == '\\' && r->end - r->at >= 2) r->at++;
    if (*r->at == '\n') {
      r->line++;
      r->line_start = r->at + 1;
    }
    r->at++;
  }
  if (r->at < r->end) r->at++;
}

static void next(reader *r) {
  skip_space(r);
  r->start = r->at;
  r->token_line = r->line;
  r->token_column = (int)(r->at - r->line_start) + 1;
  if (r->at == r->end) {
    r->kind = END;
  } else if (*r->at == '"') {
    r->kind = TEXT;
    skip_string(r);
  } else if (is_name(*r->at)) {
    r->kind = is_digit(*r->at) ? NUMBER : NAME;
    while (r->at < r->end && (is_name(*r->at) || (r->kind == NUMBER && *r->at == '.'))) r->at++;
  } else if (r->end - r->at >= 2 && r->at[0] == '-' && r->at[1] == '>') {
    r->kind = ARROW;
    r->at += 2;
  } else {
    r->kind = PUNCTUATION;
    r->at++;
  }
  r->length = (size_t)(r->at - r->start);
}

static bool is_word(const reader *r, const char *word) {
  return r->kind == NAME && r->length == strlen(word) && memcmp(r->start, word, r->length) == 0;
}
static bool is_mark(const reader *r, char mark) { return r->kind == PUNCTUATION && *r->start == mark; }

static ane_status expect(reader *r, char mark) {
  if (!is_mark(r, mark)) {
    if (r->kind == END) return bad(r, "expected '%c', found the end of the text", mark);
    if (r->kind != NAME && r->kind != NUMBER) return bad(r, "expected '%c'", mark); /* might be no text at all */
    return bad(r, "expected '%c', found '%.*s'", mark, (int)(r->length < 40 ? r->length : 40), r->start);
  }
  next(r);
  return ANE_OK;
}

/* ---- types ---- */

static size_t element_bytes(const char *dtype) {
  static const struct {
    const char *name;
    size_t bytes;
  } known[] = {{"fp16", 2},  {"fp32", 4},   {"fp64", 8},  {"bf16", 2},   {"bool", 1},  {"int8", 1},  {"uint8", 1},
               {"int16", 2}, {"uint16", 2}, {"int32", 4}, {"uint32", 4}, {"int64", 8}, {"uint64", 8}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strcmp(known[i].name, dtype) == 0) return known[i].bytes;
  return 0;
}

bool ane_port_layout(ane_port *port) {
  uint64_t element = element_bytes(port->dtype);
  if (element == 0 || port->rank < 0 || port->rank > 5) return false;
  /* [..., H, W]: a missing axis counts as 1. */
  uint64_t width = port->rank >= 1 ? (uint64_t)port->shape[port->rank - 1] : 1;
  uint64_t height = port->rank >= 2 ? (uint64_t)port->shape[port->rank - 2] : 1;
  if (width > MAX_PORT_BYTES / element || height > MAX_PORT_BYTES) return false;
  uint64_t row = (width * element + ROW_ALIGNMENT - 1) / ROW_ALIGNMENT * ROW_ALIGNMENT;
  if (row != 0 && height > MAX_PORT_BYTES / row) return false;
  uint64_t plane = height * row, total = plane;
  for (int32_t axis = 0; axis + 2 < port->rank; axis++) {
    uint64_t count = (uint64_t)port->shape[axis];
    if (total != 0 && count > MAX_PORT_BYTES / total) return false;
    total *= count;
  }
  port->row_stride = (size_t)row;
  port->plane_stride = (size_t)plane;
  port->bytes = (size_t)total;
  return true;
}

static ane_status copy_name(reader *r, const char *what, char *target, size_t size) {
  if (r->kind != NAME) return bad(r, "expected %s", what);
  if (r->length >= size) return bad(r, "%s is longer than %zu characters", what, size - 1);
  memcpy(target, r->start, r->length);
  target[r->length] = 0;
  next(r);
  return ANE_OK;
}

static ane_status read_dimension(reader *r, ane_port *port) {
  if (port->rank == 5) return bad(r, "a port has at most 5 dimensions");
  if (r->kind != NUMBER) return bad(r, "expected a dimension, a positive whole number");
  int64_t value = 0;
  for (size_t i = 0; i < r->length; i++) {
    if (!is_digit(r->start[i])) return bad(r, "expected a dimension, a positive whole number");
    value = value * 10 + (r->start[i] - '0');
    if (value > INT32_MAX) return bad(r, "this dimension is larger than %d", INT32_MAX);
  }
  if (value == 0) return bad(r, "a dimension of 0");
  port->shape[port->rank++] = value;
  next(r);
  return ANE_OK;
}

/* `fp16` or `tensor<fp16, [1, 64, 1, 32]>`; the name that follows is the caller's. */
static ane_status read_type(reader *r, ane_port *port) {
  ane_status status;
  port->rank = 0;
  if (!is_word(r, "tensor")) return copy_name(r, "a type", port->dtype, sizeof port->dtype);
  next(r);
  if ((status = expect(r, '<')) != ANE_OK) return status;
  if ((status = copy_name(r, "an element type", port->dtype, sizeof port->dtype)) != ANE_OK) return status;
  if ((status = expect(r, ',')) != ANE_OK || (status = expect(r, '[')) != ANE_OK) return status;
  while (!is_mark(r, ']')) {
    if (port->rank > 0 && (status = expect(r, ',')) != ANE_OK) return status;
    if ((status = read_dimension(r, port)) != ANE_OK) return status;
  }
  next(r);
  return expect(r, '>');
}

/* ---- the function ---- */

static ane_status skip_to_function(reader *r) {
  int depth = 0;
  for (next(r); r->kind != END; next(r)) {
    if (is_mark(r, '{') || is_mark(r, '[') || is_mark(r, '(')) depth++;
    if (is_mark(r, '}') || is_mark(r, ']') || is_mark(r, ')')) depth--;
    if (depth == 1 && is_word(r, "func")) return ANE_OK;
  }
  return bad(r, "the text has no function");
}

static ane_status read_opset(reader *r) {
  ane_status status = expect(r, '<');
  if (status != ANE_OK) return status;
  if (r->kind != NAME) return bad(r, "expected an opset such as ios18");
  next(r);
  return expect(r, '>');
}

static ane_status add_port(reader *r, ane_port **ports, size_t *count, const ane_port *port) {
  if (*count == MAX_PORTS) return bad(r, "more than %d ports on one side", MAX_PORTS);
  for (size_t i = 0; i < *count; i++)
    if (strcmp((*ports)[i].name, port->name) == 0) return bad(r, "'%s' stands here twice", port->name);
  ane_port *grown = realloc(*ports, (*count + 1) * sizeof *grown);
  if (!grown) return bad(r, "out of memory");
  grown[*count] = *port;
  *ports = grown;
  ++*count;
  return ANE_OK;
}

static ane_status read_parameters(reader *r, ane_signature *signature) {
  ane_status status = expect(r, '(');
  while (status == ANE_OK && !is_mark(r, ')')) {
    ane_port port = {0};
    if (signature->input_count > 0 && (status = expect(r, ',')) != ANE_OK) return status;
    if ((status = read_type(r, &port)) != ANE_OK) return status;
    if ((status = copy_name(r, "a parameter name", port.name, sizeof port.name)) != ANE_OK) return status;
    if (!ane_port_layout(&port))
      return bad(r, "input '%s' has no layout: dtype '%s' or its size", port.name, port.dtype);
    status = add_port(r, &signature->inputs, &signature->input_count, &port);
  }
  return status == ANE_OK ? expect(r, ')') : status;
}

/* From behind the opening brace to behind the closing one. */
static ane_status skip_body(reader *r) {
  for (int depth = 1; r->kind != END; next(r)) {
    if (is_mark(r, '{')) depth++;
    if (is_mark(r, '}') && --depth == 0) {
      next(r);
      return ANE_OK;
    }
  }
  return bad(r, "the function's body does not end");
}

static ane_status read_results(reader *r, ane_signature *signature) {
  ane_status status;
  if (r->kind != ARROW) return bad(r, "expected '->' and the values the function returns");
  next(r);
  if ((status = expect(r, '(')) != ANE_OK) return status;
  while (!is_mark(r, ')')) {
    ane_port port = {0};
    if (signature->output_count > 0 && (status = expect(r, ',')) != ANE_OK) return status;
    if ((status = copy_name(r, "an output name", port.name, sizeof port.name)) != ANE_OK) return status;
    if ((status = add_port(r, &signature->outputs, &signature->output_count, &port)) != ANE_OK) return status;
  }
  next(r);
  return ANE_OK;
}

static ane_port *find_port(ane_port *ports, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(ports[i].name, name) == 0) return &ports[i];
  return NULL;
}

/* Any type at all: what the statement defines may be of no concern to the border. */
static ane_status skip_type(reader *r) {
  if (r->kind != NAME) return bad(r, "expected a type");
  next(r);
  int depth = 0;
  if (!is_mark(r, '<')) return ANE_OK;
  for (; r->kind != END; next(r)) {
    if (is_mark(r, '<')) depth++;
    if (is_mark(r, '>') && --depth == 0) {
      next(r);
      return ANE_OK;
    }
  }
  return bad(r, "a type does not end");
}

/* `TYPE name`: when it is an output, that output gets its type. */
static ane_status read_definition(reader *r, ane_signature *signature) {
  reader type = *r;
  ane_port defined = {0};
  ane_status status = skip_type(r);
  if (status != ANE_OK) return status;
  if (r->kind == NAME && r->length >= sizeof defined.name) { /* too long for an output: no concern of the border */
    next(r);
    return ANE_OK;
  }
  if ((status = copy_name(r, "a variable name", defined.name, sizeof defined.name)) != ANE_OK) return status;
  ane_port *output = find_port(signature->outputs, signature->output_count, defined.name);
  if (!output) return ANE_OK;
  if (output->dtype[0]) return bad(r, "'%s' is defined twice", defined.name);
  if ((status = read_type(&type, &defined)) != ANE_OK) return status;
  if (!ane_port_layout(&defined))
    return bad(r, "output '%s' has no layout: dtype '%s' or its size", defined.name, defined.dtype);
  *output = defined;
  return ANE_OK;
}

/* One statement `TYPE a, TYPE b = op(...)[...];`. */
static ane_status read_statement(reader *r, ane_signature *signature) {
  ane_status status = read_definition(r, signature);
  while (status == ANE_OK && is_mark(r, ',')) {
    next(r);
    status = read_definition(r, signature);
  }
  if (status != ANE_OK) return status;
  int depth = 0;
  for (; r->kind != END; next(r)) {
    if (is_mark(r, '{') || is_mark(r, '[') || is_mark(r, '(')) depth++;
    if (is_mark(r, '}') || is_mark(r, ']') || is_mark(r, ')')) depth--;
    if (depth < 0) return bad(r, "a bracket closes that was not opened");
    if (depth == 0 && is_mark(r, ';')) {
      next(r);
      return ANE_OK;
    }
  }
  return bad(r, "a statement does not end");
}

static ane_status type_outputs(reader *body, ane_signature *signature) {
  while (!is_mark(body, '}') && body->kind != END) {
    ane_status status = read_statement(body, signature);
    if (status != ANE_OK) return status;
  }
  for (size_t i = 0; i < signature->output_count; i++) {
    ane_port *output = &signature->outputs[i];
    if (output->dtype[0]) continue;
    const ane_port *input = find_port(signature->inputs, signature->input_count, output->name);
    if (!input) return bad(body, "the function returns '%s', which nothing defines", output->name);
    *output = *input;
  }
  return ANE_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const ane_port *)a)->name, ((const ane_port *)b)->name);
}

static ane_status read_function(reader *r, ane_signature *signature) {
  ane_status status = skip_to_function(r);
  if (status != ANE_OK) return status;
  next(r);
  if (r->kind != NAME) return bad(r, "expected the function's name"); /* of any length: it is no port */
  next(r);
  if ((status = read_opset(r)) != ANE_OK) return status;
  if ((status = read_parameters(r, signature)) != ANE_OK) return status;
  if ((status = expect(r, '{')) != ANE_OK) return status;
  reader body = *r; /* outputs are named behind the body, their types stand in it */
  if ((status = skip_body(r)) != ANE_OK) return status;
  if ((status = read_results(r, signature)) != ANE_OK) return status;
  if (is_mark(r, ';')) next(r);
  if (is_word(r, "func"))
    return bad(r,
               "a program of several functions; this device runs programs of one, because a request cannot say which "
               "function it is for");
  if (signature->output_count == 0) return bad(r, "the function returns nothing");
  return type_outputs(&body, signature);
}

ane_status ane_signature_read(const char *mil, size_t bytes, ane_signature *signature, ane_error *error) {
  memset(signature, 0, sizeof *signature);
  reader r = {.at = mil, .end = mil + bytes, .line_start = mil, .line = 1, .error = error};
  ane_status status = read_function(&r, signature);
  if (status != ANE_OK) {
    ane_signature_free(signature);
    return status;
  }
  if (signature->input_count > 1) qsort(signature->inputs, signature->input_count, sizeof(ane_port), by_name);
  qsort(signature->outputs, signature->output_count, sizeof(ane_port), by_name);
  return ANE_OK;
}

void ane_signature_free(ane_signature *signature) {
  free(signature->inputs);
  free(signature->outputs);
  memset(signature, 0, sizeof *signature);
}
