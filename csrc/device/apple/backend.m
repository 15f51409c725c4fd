// The real device as a back end: opening, closing, and the table of what the other files implement.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#import "apple.h"

bool ane_apple_available(char *why, size_t why_bytes) {
  @autoreleasepool {
    ane_classes classes;
    if (!ane_load_framework(&classes, why, why_bytes) || !ane_engine_present(&classes, why, why_bytes)) return false;
    snprintf(why, why_bytes, "AppleNeuralEngine.framework answers and reports an engine");
    return true;
  }
}

static ane_status choose_root(ane_backend_device *device, const char *temp_dir, ane_error *error) {
  struct stat found;
  device->root_is_temporary = !temp_dir || !*temp_dir;
  const char *root = device->root_is_temporary ? ane_text(NSTemporaryDirectory()) : temp_dir;
  if (stat(root, &found) != 0 || !S_ISDIR(found.st_mode))
    return ane_fail(error, ANE_BAD_ARGUMENT, "temp_dir '%s' is not a directory", root);
  device->root = strdup(root);
  return device->root ? ANE_OK : ane_fail(error, ANE_UNAVAILABLE, "out of memory");
}

static void close_device(ane_backend_device *device) {
  free(device->root);
  free(device->facts);
  free(device);
}

static ane_status open_device(ane_backend_device *device, const ane_options *options, ane_error *error) {
  char why[512];
  if (options->fp32)
    return ane_fail(error, ANE_BAD_ARGUMENT, "fp32 is a mode of the emulator; the engine computes in fp16");
  if (!ane_load_framework(&device->classes, why, sizeof why) || !ane_engine_present(&device->classes, why, sizeof why))
    return ane_fail(error, ANE_UNAVAILABLE, "no real ANE here: %s", why);
  ane_status status = choose_root(device, options->temp_dir, error);
  if (status != ANE_OK) return status;
  device->facts = ane_facts_json(&device->classes);
  if (!device->facts) return ane_fail(error, ANE_UNAVAILABLE, "the facts of the device could not be written as JSON");
  (void)ane_directory_sweep(device->root); /* how many were left behind is nobody's concern */
  return ANE_OK;
}

static ane_status open_or_give_back(const ane_options *options, ane_backend_device **result, ane_error *error) {
  ane_backend_device *device = calloc(1, sizeof *device);
  if (!device) return ane_fail(error, ANE_UNAVAILABLE, "out of memory");
  ane_status status;
  @autoreleasepool {
    status = open_device(device, options, error);
  }
  if (status == ANE_OK) {
    *result = device;
  } else {
    close_device(device);
  }
  return status;
}

static const char *facts(ane_backend_device *device) { return device->facts; }

static uint64_t live_objects(ane_backend_device *device) {
  (void)device;
  return ane_held_objects();
}

const ane_backend *ane_apple_backend(void) {
  static const ane_backend backend = {
      .name = "apple",
      .can_hang = true,
      .open = open_or_give_back,
      .close = close_device,
      .facts = facts,
      .live_objects = live_objects,
      .surface_create = ane_apple_surface_create,
      .surface_destroy = ane_apple_surface_destroy,
      .surface_base = ane_apple_surface_base,
      .surface_lock = ane_apple_surface_lock,
      .surface_unlock = ane_apple_surface_unlock,
      .program_create = ane_apple_program_create,
      .program_unload = ane_apple_program_unload,
      .program_destroy = ane_apple_program_destroy,
      .request_create = ane_apple_request_create,
      .request_destroy = ane_apple_request_destroy,
      .evaluate = ane_apple_evaluate,
      .raw = &ane_apple_raw,
  };
  return &backend;
}
