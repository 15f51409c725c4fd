/* A program that has only the installed header and library: opens a device, compiles, runs, compares. */
#include <anetrain/ane.h>
#include <stdio.h>
#include <string.h>

static const char PROGRAM[] =
    "program(1.0)\n"
    "[buildInfo = dict<tensor<string, []>, tensor<string, []>>({{\"coremlc-version\", \"3505.4.1\"}})]\n"
    "{\n"
    "  func main<ios16>(tensor<fp16, [1, 2, 1, 32]> a_x, tensor<fp16, [1, 2, 1, 32]> b_y) {\n"
    "    tensor<fp16, [1, 2, 1, 32]> z = add(x = a_x, y = b_y)[name = tensor<string, []>(\"z\")];\n"
    "  } -> (z);\n"
    "}\n";

enum { ROWS = 2, COLUMNS = 32, BYTES = ROWS * COLUMNS * 2 };

static int failed(const ane_error *error) {
  fprintf(stderr, "hello: %s %s\n", error->detail, error->text);
  return 1;
}

int main(void) {
  ane_error error;
  ane_options options = ANE_OPTIONS_INIT;
  ane_device *device;
  ane_program *program;
  ane_surface *a, *b, *z;
  ane_request *request;
  float host[ROWS * COLUMNS];
  const ane_block block = {
      .rows = ROWS, .columns = COLUMNS, .row_stride = COLUMNS, .host_row_stride = COLUMNS, .host_column_stride = 1};

  if (ane_open(&options, &device, &error)) return failed(&error);
  printf("anetrain %s, back ends: %s\n%s\n", ane_version(), ane_backends(), ane_device_facts(device));
  if (ane_program_create(device, PROGRAM, strlen(PROGRAM), NULL, 0, "hello", &program, &error)) return failed(&error);
  if (ane_surface_create(device, BYTES, &a, &error)) return failed(&error);
  if (ane_surface_create(device, BYTES, &b, &error)) return failed(&error);
  if (ane_surface_create(device, BYTES, &z, &error)) return failed(&error);
  for (int i = 0; i < ROWS * COLUMNS; i++) host[i] = (float)i;
  if (ane_surface_write_f32(a, &block, host, &error)) return failed(&error);
  if (ane_surface_write_f32(b, &block, host, &error)) return failed(&error);

  const ane_binding inputs[] = {{"b_y", b}, {"a_x", a}}, outputs[] = {{"z", z}};
  if (ane_request_create(program, inputs, 2, outputs, 1, &request, &error)) return failed(&error);
  if (ane_evaluate(request, &error)) return failed(&error);
  if (ane_surface_read_f32(z, &block, host, &error)) return failed(&error);
  for (int i = 0; i < ROWS * COLUMNS; i++)
    if (host[i] != 2.0f * (float)i) {
      fprintf(stderr, "hello: element %d is %g\n", i, (double)host[i]);
      return 1;
    }

  ane_request_release(request);
  ane_surface_release(a);
  ane_surface_release(b);
  ane_surface_release(z);
  ane_program_release(program);
  ane_device_release(device);
  puts("hello, ANE");
  return 0;
}
