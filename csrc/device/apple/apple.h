/* What the files of this folder share: the real device behind csrc/device/backend.h. Manual retain and release; every
 * object that outlives an autorelease pool is held with ane_hold and given up with ane_drop, so that it is counted. */
#ifndef ANETRAIN_APPLE_H
#define ANETRAIN_APPLE_H

#include "../backend.h"
#include "../signature.h"
#include "directory.h"
#include "private_api.h"

/* 21 is QOS_CLASS_DEFAULT; the framework takes 32 bits. */
static const unsigned int ANE_QOS = 21;

/* ---- objects.m ---- */
id ane_hold(id object);                              /* retains; nil is nobody's */
void ane_drop(id *object);                           /* releases and forgets */
IOSurfaceRef ane_hold_created(IOSurfaceRef surface); /* takes over a reference that Create gave */
void ane_drop_surface(IOSurfaceRef *surface);
uint64_t ane_held_objects(void); /* in this process */

/* ---- error.m: what the framework said -> ane_error ---- */
/* `doing`: the method that failed, for people. A nil `cause` is a failure without a reason. */
ane_status ane_fail_cause(ane_error *error, ane_status status, const char *doing, NSError *cause);
ane_status ane_fail_exception(ane_error *error, ane_status status, const char *doing, id exception);
ane_status ane_fail_nil(ane_error *error, ane_status status, const char *doing);
const char *ane_text(NSString *string); /* never NULL; lives as long as the pool */

/* ---- framework.m ---- */
typedef struct {
  Class descriptor, model, request, surface_object, device_info;
} ane_classes;
/* False with a sentence that names what is missing. */
bool ane_load_framework(ane_classes *classes, char *why, size_t why_bytes);

/* ---- facts.m ---- */
/* False with a sentence when there is no engine to be reached here. */
bool ane_engine_present(const ane_classes *classes, char *why, size_t why_bytes);
char *ane_facts_json(const ane_classes *classes); /* malloc'ed; NULL when memory is out */
char *ane_json(NSDictionary *dictionary);         /* malloc'ed; NULL when it is not JSON */

/* ---- the objects of the back end ---- */
struct ane_backend_device {
  ane_classes classes;
  char *root;             /* where program directories go */
  bool root_is_temporary; /* NSTemporaryDirectory(): where the framework looks by itself */
  char *facts;
};

struct ane_backend_surface {
  IOSurfaceRef surface; /* held */
  void *base;
};

struct ane_backend_program {
  ane_backend_device *device;
  id<ANEModel> model; /* held */
  ane_directory *directory;
  ane_signature signature;
  bool loaded;
  char *report;
  ane_backend_surface *chain_statistics; /* of the first chain on; NULL before */
};

struct ane_backend_request {
  ane_backend_program *program;
  id request; /* held; it keeps its surface objects, and they their surfaces */
  bool has_statistics;
};

/* ---- surface.m ---- */
ane_status ane_apple_surface_create(ane_backend_device *device, size_t bytes, ane_backend_surface **surface,
                                    ane_error *error);
void ane_apple_surface_destroy(ane_backend_surface *surface);
void *ane_apple_surface_base(ane_backend_surface *surface);
ane_status ane_apple_surface_lock(ane_backend_surface *surface, bool write, ane_error *error);
ane_status ane_apple_surface_unlock(ane_backend_surface *surface, bool write, ane_error *error);

/* ---- blobs.m ---- */
/* Refuses paths that are not "@model_path/RELATIVE", that leave the directory, or stand in for files that are not
 * weights. The layer above has refused blobs without a path or bytes, and paths given twice. */
ane_status ane_blobs_check(const ane_blob *blobs, size_t count, ane_error *error);
NSDictionary *ane_blobs_weights(const ane_blob *blobs, size_t count); /* the framework's form; no copy of the bytes */
ane_status ane_blobs_write(ane_directory *directory, const ane_blob *blobs, size_t count, ane_error *error);

/* ---- compile.m: one call of the framework each, retries where they help ---- */
typedef struct {
  ane_status (*before_compile)(void *context, ane_error *error);
  void *context;
  uint32_t compiles; /* tries */
  uint32_t loads;
  bool from_cache;
} ane_compile_run;
ane_status ane_make_model(const ane_classes *classes, NSData *text, NSDictionary *weights, id *model, ane_error *error);
/* Compiles, unless a compiled program is there, and loads. */
ane_status ane_compile_and_load(id<ANEModel> model, ane_compile_run *run, ane_error *error);
/* Loads only, with the retries of a load; the framework is known to compile then what it never compiled. */
ane_status ane_load_model(id<ANEModel> model, ane_compile_run *run, ane_error *error);
ane_status ane_unload_model(id<ANEModel> model, ane_error *error);

/* ---- ports.m ---- */
/* Compares what the loaded model says of its ports with what the text says. `*told`: the model gave its lists. */
ane_status ane_ports_verify(id<ANEModel> model, const ane_signature *signature, bool *told, ane_error *error);

/* ---- program.m ---- */
ane_status ane_apple_program_create(ane_backend_device *device, const char *mil, size_t mil_bytes,
                                    const ane_blob *blobs, size_t blob_count, const char *label,
                                    ane_status (*before_compile)(void *context, ane_error *error), void *context,
                                    ane_backend_program **program, ane_backend_program_info *info, ane_error *error);
ane_status ane_apple_program_unload(ane_backend_program *program, ane_error *error);
void ane_apple_program_destroy(ane_backend_program *program);
/* The steps before a compile. `program` needs its device only, and gets model and directory ... */
ane_status ane_program_prepare(ane_backend_program *program, NSData *text, const ane_blob *blobs, size_t blob_count,
                               ane_error *error);
/* ... whose files these are; for the holder of the directory's write lock. */
ane_status ane_program_write(ane_backend_program *program, NSData *text, const ane_blob *blobs, size_t blob_count,
                             ane_error *error);
/* Gives up model and directory, of a program that is not loaded. */
void ane_program_drop(ane_backend_program *program);
/* Those of `program`, which is not loaded, give way to those of `next`, which has none afterwards. */
void ane_program_take(ane_backend_program *program, ane_backend_program *next);

/* ---- request.m ---- */
ane_status ane_apple_request_create(ane_backend_program *program, ane_backend_surface *const *inputs,
                                    size_t input_count, ane_backend_surface *const *outputs, size_t output_count,
                                    ane_backend_request **request, ane_error *error);
/* `raw` may be NULL. */
ane_status ane_apple_raw_request_create(ane_backend_program *program, ane_backend_surface *const *inputs,
                                        size_t input_count, ane_backend_surface *const *outputs, size_t output_count,
                                        const ane_backend_raw_request *raw, ane_backend_request **request,
                                        ane_error *error);
void ane_apple_request_destroy(ane_backend_request *request);
ane_status ane_apple_evaluate(ane_backend_request *request, const uint64_t *input_seeds, ane_error *error);
/* An _ANEIOSurfaceObject. May throw. */
ane_status ane_wrap_surface(ane_backend_program *program, ane_backend_surface *surface, id *object, ane_error *error);

/* ---- raw.m: calls for probes, and what is looked up only when it is needed. The functions may throw ---- */
extern const ane_backend_raw ane_apple_raw;
ane_status ane_find_class(NSString *name, Class *class, ane_error *error);
ane_status ane_need_method(id object, SEL method, ane_error *error); /* of an object or of a class */
ane_status ane_find_factory(NSString *name, SEL method, Class *class, ane_error *error); /* a class and its method */
ane_status ane_shared_client(id<ANEClient> *client, ane_error *error);
ane_status ane_inner_model(id<ANEModel> model, id *inner, ane_error *error); /* the _ANEModel of a loaded model */

/* ---- raw_request.m: may throw ---- */
typedef struct {
  id weights_buffer;   /* nil: none */
  NSArray *statistics; /* nil: none */
  NSNumber *procedure_index;
} ane_request_parts;
ane_status ane_raw_parts(ane_backend_program *program, const ane_backend_raw_request *raw, ane_request_parts *parts,
                         ane_error *error);
ane_status ane_raw_attach_events(id<ANERequest> request, uint32_t count, ane_error *error);

/* ---- raw_api.m, raw_reload.m, raw_chain.m: as in ane_backend_raw ---- */
ane_status ane_apple_raw_api(ane_backend_device *device, char **json, ane_error *error);
ane_status ane_apple_raw_reload(ane_backend_program *program, ane_raw_reload_kind kind, const ane_blob *blobs,
                                size_t blob_count, bool *loaded, ane_error *error);
ane_status ane_apple_raw_set_stats_mask(ane_backend_program *program, uint32_t mask, bool *loaded, ane_error *error);
ane_status ane_apple_raw_chain(ane_backend_request *const *requests, size_t count, ane_error *error);

#endif
