// Other weights for a program that is loaded, in the two ways of which others reported, and a mask of statistics: each
// unloads, changes one thing, and loads without asking for a compile.
#import "apple.h"

/* The same object again. */
static ane_status load_again(ane_backend_program *program, ane_error *error) {
  ane_compile_run run = {0};
  ane_status status = ane_load_model(program->model, &run, error);
  program->loaded = status == ANE_OK;
  return status;
}

static ane_status unload(ane_backend_program *program, ane_error *error) {
  program->loaded = false; /* whatever it answers, as everywhere */
  return ane_unload_model(program->model, error);
}

static ane_status unload_and_load(ane_backend_program *program, ane_error *error) {
  ane_status status = unload(program, error);
  return status == ANE_OK ? load_again(program, error) : status;
}

/* The layer above has seen to it that there is a file for each blob. Equal programs share the directory. One that is
 * compiled later writes its own files over these. */
static ane_status rewrite_files(ane_backend_program *program, const ane_blob *blobs, size_t count, ane_error *error) {
  int lock;
  ane_status status = ane_blobs_check(blobs, count, error);
  if (status == ANE_OK) status = ane_directory_begin_writing(program->directory, &lock, error);
  if (status != ANE_OK) return status;
  status = ane_blobs_write(program->directory, blobs, count, error);
  if (status == ANE_OK) status = unload_and_load(program, error);
  ane_directory_end_writing(lock);
  return status;
}

/* ---- a new identity ---- */

static ane_status read_text(const ane_backend_program *program, NSData **text, ane_error *error) {
  NSString *folder = [NSString stringWithUTF8String:ane_directory_path(program->directory)];
  *text = [NSData dataWithContentsOfFile:[folder stringByAppendingPathComponent:@ANE_MODEL_FILE]];
  return *text ? ANE_OK
               : ane_fail(error, ANE_COMPILE_FAILED, "cannot read %s/" ANE_MODEL_FILE " back", ane_text(folder));
}

/* `next` is loaded in place of `program`, which then is nothing but a place for it. */
static ane_status replace(ane_backend_program *program, ane_backend_program *next, NSData *text, const ane_blob *blobs,
                          size_t count, ane_error *error) {
  int lock;
  ane_status status = ane_directory_begin_writing(next->directory, &lock, error);
  if (status != ANE_OK) return status;
  status = ane_program_write(next, text, blobs, count, error);
  if (status == ANE_OK) status = unload(program, error);
  if (status == ANE_OK) status = load_again(next, error);
  ane_directory_end_writing(lock);
  if (status != ANE_OK) return status;
  ane_program_take(program, next);
  return ANE_OK;
}

static ane_status new_identity(ane_backend_program *program, const ane_blob *blobs, size_t count, ane_error *error) {
  NSData *text = nil;
  ane_backend_program next = {.device = program->device};
  ane_status status = read_text(program, &text, error);
  if (status == ANE_OK) status = ane_program_prepare(&next, text, blobs, count, error);
  if (status == ANE_OK) status = replace(program, &next, text, blobs, count, error);
  ane_program_drop(&next);
  return status;
}

/* ---- the calls ---- */

/* A failure that a second try made good leaves no trace in `error`. */
static ane_status finish(const ane_backend_program *program, ane_status status, const ane_error *failure, bool *loaded,
                         ane_error *error) {
  *loaded = program->loaded;
  if (status != ANE_OK && error) *error = *failure;
  return status;
}

ane_status ane_apple_raw_reload(ane_backend_program *program, ane_raw_reload_kind kind, const ane_blob *blobs,
                                size_t blob_count, bool *loaded, ane_error *error) {
  ane_error failure;
  ane_status status;
  @autoreleasepool {
    status = kind == ANE_RAW_REWRITE_FILES ? rewrite_files(program, blobs, blob_count, &failure)
                                           : new_identity(program, blobs, blob_count, &failure);
  }
  return finish(program, status, &failure, loaded, error);
}

static ane_status tell_mask(ane_backend_program *program, uint32_t mask, ane_error *error) {
  @try {
    ane_status status = ane_need_method(program->model, @selector(setPerfStatsMask:), error);
    if (status == ANE_OK) [program->model setPerfStatsMask:mask];
    return status;
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "setPerfStatsMask:", exception);
  }
}

ane_status ane_apple_raw_set_stats_mask(ane_backend_program *program, uint32_t mask, bool *loaded, ane_error *error) {
  ane_error failure;
  ane_status status;
  @autoreleasepool {
    status = tell_mask(program, mask, &failure);
    if (status == ANE_OK) status = unload_and_load(program, &failure);
  }
  return finish(program, status, &failure, loaded, error);
}
