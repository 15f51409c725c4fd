// A program's life: directory, model, compile and load, ports, unload. Whatever fails, everything taken is given back.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#import "apple.h"

static ane_status identify(ane_backend_program *program, NSString **identifier, ane_error *error) {
  @try {
    *identifier = [program->model hexStringIdentifier];
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "hexStringIdentifier", exception);
  }
  return *identifier ? ANE_OK : ane_fail_nil(error, ANE_COMPILE_FAILED, "hexStringIdentifier");
}

/* The framework looks in NSTemporaryDirectory(); any other place it has to be told. */
static ane_status tell_directory(ane_backend_program *program, ane_error *error) {
  if (program->device->root_is_temporary) return ANE_OK;
  if (![program->model respondsToSelector:@selector(setModelURL:)])
    return ane_fail(error, ANE_BAD_ARGUMENT,
                    "_ANEInMemoryModel has no setModelURL: here, so temp_dir cannot be chosen");
  @try {
    NSString *path = [NSString stringWithUTF8String:ane_directory_path(program->directory)];
    [program->model setModelURL:[NSURL fileURLWithPath:path]];
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "setModelURL:", exception);
  }
  return ANE_OK;
}

ane_status ane_program_prepare(ane_backend_program *program, NSData *text, const ane_blob *blobs, size_t blob_count,
                               ane_error *error) {
  id model = nil;
  NSString *identifier = nil;
  ane_status status = ane_blobs_check(blobs, blob_count, error);
  if (status != ANE_OK) return status;
  status = ane_make_model(&program->device->classes, text, ane_blobs_weights(blobs, blob_count), &model, error);
  if (status != ANE_OK) return status;
  program->model = ane_hold(model);
  if ((status = identify(program, &identifier, error)) != ANE_OK) return status;
  return ane_directory_acquire(program->device->root, ane_text(identifier), &program->directory, error);
}

ane_status ane_program_write(ane_backend_program *program, NSData *text, const ane_blob *blobs, size_t blob_count,
                             ane_error *error) {
  ane_status status = ane_directory_write(program->directory, ANE_MODEL_FILE, [text bytes], [text length], error);
  if (status == ANE_OK) status = ane_blobs_write(program->directory, blobs, blob_count, error);
  return status == ANE_OK ? tell_directory(program, error) : status;
}

static ane_status write_and_compile(ane_backend_program *program, NSData *text, const ane_blob *blobs,
                                    size_t blob_count, ane_compile_run *run, ane_error *error) {
  int lock;
  ane_status status = ane_directory_begin_writing(program->directory, &lock, error);
  if (status != ANE_OK) return status;
  status = ane_program_write(program, text, blobs, blob_count, error);
  if (status == ANE_OK) status = ane_compile_and_load(program->model, run, error);
  program->loaded = status == ANE_OK;
  ane_directory_end_writing(lock);
  return status;
}

/* The compiler judges the text first: only what it takes needs a readable border. */
static ane_status read_ports(ane_backend_program *program, NSData *text, bool *verified, ane_error *error) {
  ane_status status = ane_signature_read([text bytes], [text length], &program -> signature, error);
  return status == ANE_OK ? ane_ports_verify(program->model, &program->signature, verified, error) : status;
}

static char *report(const ane_directory *directory, const ane_compile_run *run, bool ports_verified) {
  const char *identifier = strrchr(ane_directory_path(directory), '/') + 1;
  return ane_json(@{
    @"identifier" : [NSString stringWithUTF8String:identifier],
    @"compiles" : @(run->compiles),
    @"loads" : @(run->loads),
    @"ports_verified" : @(ports_verified ? 1 : 0),
  });
}

static ane_status create(ane_backend_program *program, NSData *text, const ane_blob *blobs, size_t blob_count,
                         ane_compile_run *run, ane_error *error) {
  bool ports_verified = false;
  ane_status status = ane_program_prepare(program, text, blobs, blob_count, error);
  if (status != ANE_OK) return status;
  if ((status = write_and_compile(program, text, blobs, blob_count, run, error)) != ANE_OK) return status;
  if ((status = read_ports(program, text, &ports_verified, error)) != ANE_OK) return status;
  program->report = report(program->directory, run, ports_verified);
  return program->report ? ANE_OK : ane_fail(error, ANE_COMPILE_FAILED, "no report could be written");
}

ane_status ane_apple_program_create(ane_backend_device *device, const char *mil, size_t mil_bytes,
                                    const ane_blob *blobs, size_t blob_count, const char *label,
                                    ane_status (*before_compile)(void *context, ane_error *error), void *context,
                                    ane_backend_program **result, ane_backend_program_info *info, ane_error *error) {
  (void)label; /* the layer above names the program in errors and reports */
  ane_backend_program *program = calloc(1, sizeof *program);
  if (!program) return ane_fail(error, ANE_COMPILE_FAILED, "out of memory for a program");
  program->device = device;
  ane_compile_run run = {.before_compile = before_compile, .context = context};
  ane_error failure; /* a try that failed and was made good by the next leaves no trace in `error` */
  ane_status status;
  @autoreleasepool {
    NSData *text = [NSData dataWithBytes:mil length:mil_bytes];
    status = create(program, text, blobs, blob_count, &run, &failure);
  }
  if (status != ANE_OK) {
    if (error) *error = failure;
    if (program->loaded) (void)ane_apple_program_unload(program, NULL); /* the first failure is the one to report */
    ane_apple_program_destroy(program);
    return status;
  }
  *info = (ane_backend_program_info){
      .inputs = program->signature.inputs,
      .outputs = program->signature.outputs,
      .input_count = program->signature.input_count,
      .output_count = program->signature.output_count,
      .from_cache = run.from_cache,
      .report = program->report,
  };
  *result = program;
  return ANE_OK;
}

static void leave_directory(ane_backend_program *program) {
  if (program->directory) ane_directory_release(program->directory);
  program->directory = NULL;
}

ane_status ane_apple_program_unload(ane_backend_program *program, ane_error *error) {
  ane_status status = ANE_OK;
  @autoreleasepool {
    if (program->loaded) status = ane_unload_model(program->model, error);
  }
  program->loaded = false;
  leave_directory(program);
  return status;
}

void ane_program_drop(ane_backend_program *program) {
  ane_drop(&program->model);
  leave_directory(program);
}

void ane_program_take(ane_backend_program *program, ane_backend_program *next) {
  ane_program_drop(program);
  program->model = next->model;
  program->directory = next->directory;
  program->loaded = next->loaded;
  next->model = nil;
  next->directory = NULL;
}

void ane_apple_program_destroy(ane_backend_program *program) {
  @autoreleasepool {
    ane_program_drop(program);
  }
  if (program->chain_statistics) ane_apple_surface_destroy(program->chain_statistics);
  ane_signature_free(&program->signature);
  free(program->report);
  free(program);
}
