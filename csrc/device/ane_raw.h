/* anetrain: calls of an Apple Neural Engine that training never makes, for probes of what the hardware does with them.
 *
 * Everything here is about a device opened by ane.h and its programs, surfaces and requests. What the framework cannot
 * do, or the device does not know, is an error as in ane.h. These calls may crash the process or never return, on the
 * engine and where a profile says so on the emulator: make them in a process of their own.
 */
#ifndef ANETRAIN_ANE_RAW_H
#define ANETRAIN_ANE_RAW_H

#include "ane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* JSON: {"framework": path or "emulator", "version", "classes": {name: {"found", "class_methods": {selector: type
 * encoding}, "instance_methods": {...}, "expected": {"+selector" or "-selector": encoding that our protocols imply}}},
 * "other_classes": [names of the image's other classes]}. malloc'ed: free it with ane_raw_free. The emulator answers
 * with what this project's protocols say, as a device that has all of them. */
ANE_API ane_status ane_raw_api(ane_device *device, char **json, ane_error *error);
ANE_API void ane_raw_free(char *json);

/* A request with what training leaves at its default. Zero-initialise, or use ANE_RAW_REQUEST_INIT. Surfaces in device
 * order, sizes not checked. What the framework's -validate refuses is an ANE_BAD_ARGUMENT: a procedure index above 128,
 * more than 64 events. ane_evaluate takes such a request too. */
typedef struct {
  uint32_t struct_size; /* sizeof(ane_raw_request) */
  uint32_t procedure_index;
  ane_surface *weights_buffer; /* NULL: none */
  bool performance_stats;      /* attach a statistics object (the framework wants one that answers statType) */
  uint32_t shared_events;      /* so many signal events of a new shared event */
} ane_raw_request;
#define ANE_RAW_REQUEST_INIT {.struct_size = sizeof(ane_raw_request)}
ANE_API ane_status ane_raw_request_create(ane_program *program, ane_surface *const *inputs, size_t input_count,
                                          ane_surface *const *outputs, size_t output_count, const ane_raw_request *raw,
                                          ane_request **request, ane_error *error);

typedef enum {
  ANE_RAW_STANDARD = 0,  /* -[_ANEInMemoryModel evaluateWithQoS:options:request:error:] */
  ANE_RAW_CLIENT = 1,    /* -[_ANEClient evaluateWithModel:options:request:qos:error:] */
  ANE_RAW_DIRECT = 2,    /* -[_ANEClient doEvaluateDirectWithModel:options:request:qos:error:] */
  ANE_RAW_REAL_TIME = 3, /* -[_ANEClient evaluateRealTimeWithModel:options:request:error:], inside of a task that
                            beginRealTimeTask and endRealTimeTask mark */
  ANE_RAW_PROCESS = 4,   /* -[_ANEProgramForEvaluation processRequest:...] */
} ane_raw_path;
typedef struct {
  uint64_t hardware_ns; /* of the statistics object; 0 where it says nothing */
  bool has_stats;
  bool real_time_granted; /* beginRealTimeTask said YES (ANE_RAW_REAL_TIME) */
} ane_raw_result;
/* `result` may be NULL. As ane_evaluate otherwise: watchdog, counters, marked outputs after a failure. */
ANE_API ane_status ane_raw_evaluate(ane_request *request, uint32_t qos, ane_raw_path path, ane_raw_result *result,
                                    ane_error *error);

typedef enum {
  ANE_RAW_REWRITE_FILES =
      0, /* write the blobs over the files in the program's directory, unload, load the same object */
  ANE_RAW_NEW_IDENTITY = 1, /* unload; a new descriptor of the same text and the new blobs, loaded without a compile */
} ane_raw_reload_kind;
/* Give a loaded program other weights: `blobs` are all of its files. Requests of before stay valid and use what is then
 * loaded. Unload and load count; what the framework compiles on demand cannot be counted. After a failure the program
 * may be unloaded, as if by ane_program_unload. */
ANE_API ane_status ane_raw_reload(ane_program *program, ane_raw_reload_kind kind, const ane_blob *blobs,
                                  size_t blob_count, ane_error *error);

/* Unload, set the model's perfStatsMask, load the same object. Bits 1, 2, 4 and 8; 0: none. Failures as of
 * ane_raw_reload. */
ANE_API ane_status ane_raw_set_stats_mask(ane_program *program, uint32_t mask, ane_error *error);

/* Prepare a chain of requests, each of which reads an output of the one before, and run it as one evaluation. */
ANE_API ane_status ane_raw_chain(ane_request *const *requests, size_t count, ane_error *error);

#ifdef __cplusplus
}
#endif
#endif
