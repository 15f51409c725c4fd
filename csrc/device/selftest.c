#include "selftest.h"

#include <string.h>

#include "backend.h"

enum {
  CHANNELS = 64,
  WIDTH = 32,
  COUNT = CHANNELS * WIDTH,
  BYTES = 2 * COUNT,
};

/* The older dialect, which every chip takes. Not symmetric in its inputs, so that swapped surfaces show. */
static const char PROGRAM[] =
    "program(1.0)\n"
    "[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{\"coremlc-version\", \"3505.4.1\"}})]\n"
    "{\n"
    "  func main<ios16>(tensor<fp16, [1, 64, 1, 32]> a_x, tensor<fp16, [1, 64, 1, 32]> b_y) {\n"
    "    tensor<fp16, [1, 64, 1, 32]> twice = add(x = a_x, y = a_x)[name = tensor<string, []>(\"twice\")];\n"
    "    tensor<fp16, [1, 64, 1, 32]> z = sub(x = twice, y = b_y)[name = tensor<string, []>(\"z\")];\n"
    "  } -> (z);\n"
    "}\n";

/* Small whole numbers: exact in fp16 on every chip. */
static float value_a(size_t i) { return (float)((i * 7) % 61); }
static float value_b(size_t i) { return (float)((i * 5) % 53); }

static ane_status write(ane_surface *surface, float (*value)(size_t), ane_error *error) {
  static const ane_block block = {
      .rows = 1, .columns = COUNT, .row_stride = COUNT, .host_row_stride = COUNT, .host_column_stride = 1};
  float host[COUNT];
  for (size_t i = 0; i < COUNT; i++) host[i] = value(i);
  return ane_surface_write_f32(surface, &block, host, error);
}

static ane_status compare(ane_surface *surface, ane_error *error) {
  static const ane_block block = {
      .rows = 1, .columns = COUNT, .row_stride = COUNT, .host_row_stride = COUNT, .host_column_stride = 1};
  float host[COUNT];
  ane_status status = ane_surface_read_f32(surface, &block, host, error);
  for (size_t i = 0; status == ANE_OK && i < COUNT; i++) {
    float expected = 2 * value_a(i) - value_b(i);
    if (host[i] != expected)
      status =
          ane_fail(error, ANE_EVAL_FAILED, "the self-test read %g at channel %zu, column %zu, where %g was expected",
                   (double)host[i], i / WIDTH, i % WIDTH, (double)expected);
  }
  return status;
}

ane_status ane_selftest(ane_device *device, ane_error *error) {
  ane_surface *a = NULL, *b = NULL, *z = NULL;
  ane_program *program = NULL;
  ane_request *request = NULL;
  ane_status status = ane_program_create(device, PROGRAM, strlen(PROGRAM), NULL, 0, "self-test", &program, error);
  if (status == ANE_OK) status = ane_surface_create(device, BYTES, &a, error);
  if (status == ANE_OK) status = ane_surface_create(device, BYTES, &b, error);
  if (status == ANE_OK) status = ane_surface_create(device, BYTES, &z, error);
  if (status == ANE_OK) status = write(a, value_a, error);
  if (status == ANE_OK) status = write(b, value_b, error);
  if (status == ANE_OK) {
    ane_binding inputs[] = {{"a_x", a}, {"b_y", b}}, outputs[] = {{"z", z}};
    status = ane_request_create(program, inputs, 2, outputs, 1, &request, error);
  }
  if (status == ANE_OK) status = ane_evaluate(request, error);
  if (status == ANE_OK) status = compare(z, error);

  if (request) ane_request_release(request);
  if (status == ANE_OK) status = ane_program_unload(program, error);
  if (program) ane_program_release(program);
  if (a) ane_surface_release(a);
  if (b) ane_surface_release(b);
  if (z) ane_surface_release(z);
  return status;
}
