/* anetrain: an Apple Neural Engine, real or emulated, behind one C interface.
 *
 * Everything above this header is the same program on a Mac and on Linux. Every function that can fail returns a
 * status and, when `error` is not NULL, fills it; on success `error` is left cleared. Objects are reference counted:
 * `*_release` gives up the caller's reference, and an object stays alive while another one needs it (a request keeps
 * its program and surfaces, a program keeps its device).
 *
 * All functions may be called from any thread unless the comment says otherwise.
 */
#ifndef ANETRAIN_ANE_H
#define ANETRAIN_ANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#error "anetrain runs on macOS and Linux"
#endif
#define ANE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- errors -------------------------------------- */

typedef enum {
  ANE_OK = 0,
  ANE_COMPILE_FAILED = 1,  /* the program was refused: text, blobs, limits of the compiler, load */
  ANE_EVAL_FAILED = 2,     /* the engine, or its emulation, reported a failed evaluation */
  ANE_BUDGET_EXCEEDED = 3, /* live programs or lifetime compiles would pass their budget; nothing was tried */
  ANE_SURFACE_ERROR = 4,   /* a surface is too small, locked, unlocked, or the block does not fit it */
  ANE_UNAVAILABLE = 5,     /* no such device here, poisoned by a time-out, or used in a forked child */
  ANE_BAD_ARGUMENT = 6,    /* an unknown name, a null pointer, a wrong option: a mistake of the caller */
  ANE_UNLOAD_FAILED = 7,   /* the engine did not give a program's place back; the program is gone all the same */
} ane_status;

typedef struct {
  ane_status status;
  int64_t code;    /* NSError code, or the one the hardware would give; 0 where there is none */
  char domain[64]; /* NSError domain, e.g. "com.apple.appleneuralengine.compiler"; "" where there is none */
  char label[128]; /* the program's label; "" where no program is concerned */
  char rule[64];   /* the profile rule that was broken, e.g. "softmax-power-of-two"; "" where there is none */
  int32_t line;    /* 1-based place in the MIL text; 0 where there is none */
  int32_t column;
  char text[1024]; /* the text the hardware gives, e.g. "_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)"
                    */
  char detail[2048]; /* for people: what was wrong, what was found and expected, what to do */
} ane_error;

/* ---------------------------------------------------------------- device -------------------------------------- */

typedef struct ane_device ane_device;
typedef struct ane_surface ane_surface;
typedef struct ane_program ane_program;
typedef struct ane_request ane_request;

typedef enum { ANE_KIND_AUTO = 0, ANE_KIND_REAL = 1, ANE_KIND_EMULATOR = 2 } ane_kind;
typedef enum { ANE_EXECUTOR_FAST = 0, ANE_EXECUTOR_REFERENCE = 1, ANE_EXECUTOR_AUDIT = 2 } ane_executor;

/* Zero-initialise, or use ANE_OPTIONS_INIT; a zero or NULL field means its default. */
typedef struct {
  uint32_t struct_size; /* sizeof(ane_options): lets the structure grow */
  ane_kind kind;
  const char *profile;     /* emulator: "m4" (default), "exact", ... or a path to a .profile file */
  ane_executor executor;   /* emulator */
  bool fp32;               /* emulator: fp16 is fp32 everywhere, ports and surface elements included: no rounding */
  bool allow_unproven;     /* lift the evidence rule: ops without direct evidence compile, with a warning */
  const char *rules;       /* emulator: switches over the profile, "name=on,name=off,name=123" */
  uint32_t live_budget;    /* programs loaded at once; default 100 */
  uint32_t compile_budget; /* compiles in the life of the process; default 100 */
  uint32_t watchdog_ms;    /* evaluate gives up after this; default 30,000; UINT32_MAX: no watchdog */
  const char *temp_dir;    /* real: where program directories go; default NSTemporaryDirectory() */
} ane_options;
#define ANE_OPTIONS_INIT {.struct_size = sizeof(ane_options)}

ANE_API ane_status ane_open(const ane_options *options, ane_device **device, ane_error *error);
ANE_API void ane_device_release(ane_device *device);

/* What the device is, as JSON text that lives as long as the device: kind, why it was chosen, chip, profile, dialect,
 * aneSubType, architecture, cores, limits, rules in force, run-time versions. */
ANE_API const char *ane_device_facts(ane_device *device);

typedef struct {
  uint64_t compiles;    /* done by the compiler, in the life of this process (also failed ones) */
  uint64_t cache_loads; /* loads that found a compiled program and skipped the compiler */
  uint64_t loads;
  uint64_t unloads;
  uint64_t evaluations;
  uint64_t failed_compiles;
  uint64_t failed_evaluations;
  uint64_t live_programs; /* loaded now, in this process */
  uint64_t live_surfaces;
  uint64_t live_requests;
  uint64_t surface_bytes; /* allocated by live surfaces */
  uint64_t live_budget;
  uint64_t compile_budget;
  uint64_t backend_objects; /* objects the back end itself still holds (Objective-C objects, emulator programs) */
  bool poisoned;
} ane_counters;
ANE_API ane_status ane_device_counters(ane_device *device, ane_counters *counters, ane_error *error);

/* Is a real ANE usable here? Fills `why` (for people) either way. */
ANE_API bool ane_real_available(char *why, size_t why_bytes);
/* Comma-separated back ends in this build: "emulator" or "apple,emulator". */
ANE_API const char *ane_backends(void);
ANE_API const char *ane_version(void);
/* Comma-separated names of the built-in profiles. */
ANE_API const char *ane_profiles(void);
/* JSON of the emulator's operation table: name -> {arguments: [{name, required, kinds, type, default}], evidence,
 * source, since_ios}. */
ANE_API const char *ane_operation_table(void);
/* JSON of the rule catalogue: name -> {summary, source, stage, kind, unit, number (of a bare "on"), error}. */
ANE_API const char *ane_rule_table(void);

/* ---------------------------------------------------------------- surfaces ------------------------------------ */

/* A flat, zeroed, page-aligned buffer that both the CPU and the engine reach (an IOSurface on a Mac). */
ANE_API ane_status ane_surface_create(ane_device *device, size_t bytes, ane_surface **surface, ane_error *error);
ANE_API void ane_surface_retain(ane_surface *surface);
ANE_API void ane_surface_release(ane_surface *surface);
ANE_API size_t ane_surface_bytes(const ane_surface *surface);
/* Changes whenever the content may have changed: a write lock was closed, or an evaluation wrote it. */
ANE_API uint64_t ane_surface_seed(const ane_surface *surface);
/* Locks nest for reading; a write lock is exclusive. A lock waits for an evaluation that is using the surface; evaluate
 * refuses a surface that is locked for writing, or that it would write while it is locked for reading. */
ANE_API ane_status ane_surface_lock(ane_surface *surface, bool write, void **base, ane_error *error);
ANE_API ane_status ane_surface_unlock(ane_surface *surface, bool write, ane_error *error);

/* A block of `rows` x `columns` elements. On the surface row r, column c stands at element
 * offset + r * row_stride + c; on the host at r * host_row_stride + c * host_column_stride. So a crop is an offset and
 * a stride, and a transposed copy is host_row_stride = 1. */
typedef struct {
  size_t rows, columns;
  size_t offset, row_stride;                     /* elements of the surface */
  ptrdiff_t host_row_stride, host_column_stride; /* elements of the host array */
} ane_block;

/* Convert and copy; they take the lock themselves. fp32 -> fp16: nearest even, overflow to infinity. Surface elements
 * are fp16, or fp32 on a device opened with `fp32`. */
ANE_API ane_status ane_surface_write_f32(ane_surface *surface, const ane_block *block, const float *host,
                                         ane_error *error);
ANE_API ane_status ane_surface_read_f32(ane_surface *surface, const ane_block *block, float *host, ane_error *error);
/* The same for a host array of halves. */
ANE_API ane_status ane_surface_write_f16(ane_surface *surface, const ane_block *block, const uint16_t *host,
                                         ane_error *error);
ANE_API ane_status ane_surface_read_f16(ane_surface *surface, const ane_block *block, uint16_t *host, ane_error *error);

/* ---------------------------------------------------------------- programs ------------------------------------ */

typedef struct {
  const char *path; /* as in the MIL text, e.g. "@model_path/weights/w1.bin" */
  const void *data; /* a whole blob file; read during the call only */
  size_t bytes;
} ane_blob;

/* Compile and load. `label` names the program in errors and reports; it need not be unique. */
ANE_API ane_status ane_program_create(ane_device *device, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                                      size_t blob_count, const char *label, ane_program **program, ane_error *error);
/* Unload now (idempotent); later use of the program or of its requests is an error. ANE_UNLOAD_FAILED: the program is
 * unloaded as far as this library goes, and its place counts as free, but the engine may not have given it back. */
ANE_API ane_status ane_program_unload(ane_program *program, ane_error *error);
ANE_API void ane_program_release(ane_program *program);

typedef struct {
  const char *rule;    /* "" where the text or a blob is wrong, whatever the profile */
  const char *stage;   /* where the device would say it: "compile", "load", "evaluate"; "numerics": it never does */
  bool advice;         /* the device takes the program, and it often goes wrong */
  const char *subject; /* "input 'x'", "conv 'y'", "the program"; "" without a rule */
  const char *value;   /* what was found, in words */
  const char *limit;   /* what the rule allows */
  const char *detail;  /* all of it as a sentence; an ane_error of this finding adds the profile */
  const char *summary; /* of the rule, with its source: as in ane_rule_table */
  const char *source;
  int32_t line, column; /* as in ane_error */
} ane_finding;
typedef void ane_finding_callback(void *context, const ane_finding *finding); /* it lives for the call */

/* What stands against a program under an emulator's profile, found without a device: nothing is counted, loaded or run.
 * Of the options, profile, rules, fp32 and allow_unproven are read; NULL: m4 as it is. `found` gets every breach of
 * every rule, in the order in which the device asks (at most 1000): of compile and load those that a fresh process
 * would meet, of evaluate and numerics what can be seen before anything runs. Text or blobs that cannot be read are one
 * finding, and the last. ANE_OK: the check was done, whatever it found. */
ANE_API ane_status ane_check(const ane_options *options, const char *mil, size_t mil_bytes, const ane_blob *blobs,
                             size_t blob_count, ane_finding_callback *found, void *context, ane_error *error);

typedef struct {
  char name[128];
  char dtype[16]; /* "fp16", "fp32", ... */
  int32_t rank;
  int64_t shape[5];
  size_t bytes;        /* what a surface must hold at least, row padding included */
  size_t row_stride;   /* bytes */
  size_t plane_stride; /* bytes: from one channel to the next */
} ane_port;
/* Ports in device order: names ascending in ASCII. `output` false: inputs. */
ANE_API size_t ane_program_port_count(const ane_program *program, bool output);
ANE_API ane_status ane_program_port(const ane_program *program, bool output, size_t index, ane_port *port,
                                    ane_error *error);
/* JSON, lives until the next call for this program: label, operations, FLOPs, constant bytes, warnings, compile_ms,
 * from_cache, was_prepared (emulator: it knew the text), and `counters` of the evaluations so far where the engine
 * counts (the audit executor does). */
ANE_API const char *ane_program_report(ane_program *program);

/* ---------------------------------------------------------------- requests ------------------------------------ */

typedef struct {
  const char *name;
  ane_surface *surface;
} ane_binding;

/* Every input and output bound by name exactly once; sizes and device checked here, once. */
ANE_API ane_status ane_request_create(ane_program *program, const ane_binding *inputs, size_t input_count,
                                      const ane_binding *outputs, size_t output_count, ane_request **request,
                                      ane_error *error);
/* For probes of the hardware's own behaviour: surfaces by position in device order, no size check. */
ANE_API ane_status ane_request_create_positional(ane_program *program, ane_surface *const *inputs, size_t input_count,
                                                 ane_surface *const *outputs, size_t output_count,
                                                 ane_request **request, ane_error *error);
ANE_API void ane_request_release(ane_request *request);

/* Runs to the end. On failure the outputs are marked: reading one before it is written again is an ANE_SURFACE_ERROR,
 * so old output never looks new. */
ANE_API ane_status ane_evaluate(ane_request *request, ane_error *error);

/* ---------------------------------------------------------------- tests --------------------------------------- */

typedef enum {
  ANE_FAULT_COMPILE = 0, /* the k-th compile from now fails (k = 0: the next one) */
  ANE_FAULT_LOAD = 1,
  ANE_FAULT_EVALUATE = 2,
  ANE_FAULT_STALL = 3, /* the k-th evaluation from now takes `milliseconds` longer */
  ANE_FAULT_CLEAR = 4, /* forget all faults */
  ANE_FAULT_UNLOAD = 5,
} ane_fault;
ANE_API ane_status ane_inject_fault(ane_device *device, ane_fault fault, uint64_t after, uint32_t milliseconds,
                                    ane_error *error);

#ifdef __cplusplus
}
#endif
#endif
