/* What a back end (the real ANE, the emulated ANE) implements. The layer above, in this folder, does what both share:
 * reference counts, names and their sorted order, size checks, budgets, locks and seeds, the watchdog, fork and exit,
 * faults. A back end only talks to its engine. Plain C, so that Objective-C and C++ implement it alike. */
#ifndef ANETRAIN_BACKEND_H
#define ANETRAIN_BACKEND_H

#include "ane.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ane_backend_device ane_backend_device;
typedef struct ane_backend_surface ane_backend_surface;
typedef struct ane_backend_program ane_backend_program;
typedef struct ane_backend_request ane_backend_request;

typedef struct {
  const ane_port *inputs, *outputs; /* device order; owned by the back end's program */
  size_t input_count, output_count;
  bool from_cache;    /* loaded without running the compiler */
  const char *report; /* JSON object text: what the back end knows of the program */
} ane_backend_program_info;

typedef struct {
  const char *name; /* "apple", "emulator" */
  bool can_hang;    /* an evaluation may never return: it runs on a lane of its own, under the watchdog */

  ane_status (*open)(const ane_options *options, ane_backend_device **device, ane_error *error);
  void (*close)(ane_backend_device *device);
  const char *(*facts)(ane_backend_device *device); /* JSON object text, lives as long as the device */
  uint64_t (*live_objects)(ane_backend_device *device);

  ane_status (*surface_create)(ane_backend_device *device, size_t bytes, ane_backend_surface **surface,
                               ane_error *error);
  void (*surface_destroy)(ane_backend_surface *surface);
  void *(*surface_base)(ane_backend_surface *surface); /* stable for the life of the surface */
  ane_status (*surface_lock)(ane_backend_surface *surface, bool write, ane_error *error);
  ane_status (*surface_unlock)(ane_backend_surface *surface, bool write, ane_error *error);

  /* Compile and load. `before_compile` is called right before the compiler runs, never when a cached program is loaded;
   * when it does not return ANE_OK the back end stops, cleans up and returns that status. */
  ane_status (*program_create)(ane_backend_device *device, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                               size_t blob_count, const char *label,
                               ane_status (*before_compile)(void *context, ane_error *error), void *context,
                               ane_backend_program **program, ane_backend_program_info *info, ane_error *error);
  ane_status (*program_unload)(ane_backend_program *program, ane_error *error); /* once */
  /* JSON object text: what happened in the evaluations so far. Lives until the next call; called in the program's turn,
   * also after unload. NULL: the engine counts nothing. */
  const char *(*program_counters)(ane_backend_program *program);
  void (*program_destroy)(ane_backend_program *program); /* after unload */

  /* Surfaces in device order. */
  ane_status (*request_create)(ane_backend_program *program, ane_backend_surface *const *inputs, size_t input_count,
                               ane_backend_surface *const *outputs, size_t output_count, ane_backend_request **request,
                               ane_error *error);
  void (*request_destroy)(ane_backend_request *request);

  /* `input_seeds[i]` lets an engine see that the content of an input did not change since an earlier evaluation. */
  ane_status (*evaluate)(ane_backend_request *request, const uint64_t *input_seeds, ane_error *error);
} ane_backend;

const ane_backend *ane_emulator_backend(void);
#ifdef ANETRAIN_APPLE
const ane_backend *ane_apple_backend(void);
bool ane_apple_available(char *why, size_t why_bytes);
#endif

/* Fill `error` (may be NULL) and return its status: `return ane_fail(error, ANE_BAD_ARGUMENT, "no input %s", name);` */
ane_status ane_fail(ane_error *error, ane_status status, const char *detail_format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with what the hardware says: domain, code and its text. */
ane_status ane_fail_as(ane_error *error, ane_status status, const char *domain, int64_t code, const char *text,
                       const char *detail_format, ...) __attribute__((format(printf, 6, 7)));

#ifdef __cplusplus
}
#endif
#endif
