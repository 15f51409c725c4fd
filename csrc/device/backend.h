/* What a back end (the real ANE, the emulated ANE) implements. The layer above, in this folder, does what both share:
 * reference counts, names and their sorted order, size checks, budgets, locks and seeds, the watchdog, fork and exit,
 * faults. A back end only talks to its engine. Plain C, so that Objective-C and C++ implement it alike. */
#ifndef ANETRAIN_BACKEND_H
#define ANETRAIN_BACKEND_H

#include "ane.h"
#include "ane_raw.h"

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

/* ane_raw_request with the back end's own surface. */
typedef struct {
  uint32_t procedure_index;
  ane_backend_surface *weights_buffer; /* NULL: none */
  bool performance_stats;
  uint32_t shared_events;
} ane_backend_raw_request;

/* The calls of ane_raw.h. Programs and requests are those of ane_backend: a request made here also goes through its
 * `evaluate`, and is destroyed by its `request_destroy`. */
typedef struct {
  /* As ane_raw_api; allocated by malloc. */
  ane_status (*api)(ane_backend_device *device, char **json, ane_error *error);

  /* Surfaces in device order, as many as the program has ports. What the framework's -validate refuses is an
   * ANE_BAD_ARGUMENT: a procedure index above 128, more than 64 events. */
  ane_status (*request_create)(ane_backend_program *program, ane_backend_surface *const *inputs, size_t input_count,
                               ane_backend_surface *const *outputs, size_t output_count,
                               const ane_backend_raw_request *raw, ane_backend_request **request, ane_error *error);

  /* May crash or never return, whatever can_hang says. `result` is zeroed before. */
  ane_status (*evaluate)(ane_backend_request *request, const uint64_t *input_seeds, uint32_t qos, ane_raw_path path,
                         ane_raw_result *result, ane_error *error);

  /* These unload a loaded program and load it again. `*loaded` is true before, and says afterwards whether it is: what
   * is not loaded is only destroyed, without program_unload. Requests follow the program. */
  ane_status (*reload)(ane_backend_program *program, ane_raw_reload_kind kind, const ane_blob *blobs, size_t blob_count,
                       bool *loaded, ane_error *error);
  ane_status (*set_stats_mask)(ane_backend_program *program, uint32_t mask, bool *loaded, ane_error *error);

  /* At least one request, of loaded programs; the layer above holds all their surfaces. May hang as evaluate. */
  ane_status (*chain)(ane_backend_request *const *requests, size_t count, ane_error *error);
} ane_backend_raw;

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

  const ane_backend_raw *raw; /* NULL: this back end has none of ane_raw.h */
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
