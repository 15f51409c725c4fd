// Requests: surfaces bound by position, built once, evaluated many times.
#include <stdlib.h>

#import "apple.h"

ane_status ane_wrap_surface(ane_backend_program *program, ane_backend_surface *surface, id *object, ane_error *error) {
  id<ANESurfaceObjectClass> factory = (id<ANESurfaceObjectClass>)program->device->classes.surface_object;
  *object = [factory objectWithIOSurface:surface->surface];
  return *object ? ANE_OK : ane_fail_nil(error, ANE_SURFACE_ERROR, "objectWithIOSurface:");
}

/* The surfaces of a side, and their numbers 0..count-1. */
typedef struct {
  NSMutableArray *objects, *indices;
} side;

static ane_status wrap(ane_backend_program *program, ane_backend_surface *const *surfaces, size_t count, side *wrapped,
                       ane_error *error) {
  *wrapped = (side){[NSMutableArray array], [NSMutableArray array]};
  for (size_t i = 0; i < count; i++) {
    id object = nil;
    ane_status status = ane_wrap_surface(program, surfaces[i], &object, error);
    if (status != ANE_OK) return status;
    [wrapped->objects addObject:object];
    [wrapped->indices addObject:@(i)];
  }
  return ANE_OK;
}

static ane_status build(ane_backend_program *program, const side *inputs, const side *outputs,
                        const ane_backend_raw_request *raw, id<ANERequest> *request, ane_error *error) {
  ane_request_parts parts = {.procedure_index = @0 };
  ane_status status = raw ? ane_raw_parts(program, raw, &parts, error) : ANE_OK;
  if (status != ANE_OK) return status;
  *request = [(id<ANERequestClass>)program->device->classes.request requestWithInputs:inputs->objects
                                                                         inputIndices:inputs->indices
                                                                              outputs:outputs->objects
                                                                        outputIndices:outputs->indices
                                                                        weightsBuffer:parts.weights_buffer
                                                                            perfStats:parts.statistics
                                                                       procedureIndex:parts.procedure_index];
  if (!*request) return ane_fail_nil(error, ANE_EVAL_FAILED, "requestWithInputs:...:procedureIndex:");
  if (raw && raw->shared_events) status = ane_raw_attach_events(*request, raw->shared_events, error);
  if (status != ANE_OK) return status;
  if ([*request respondsToSelector:@selector(validate)] && ![*request validate])
    return ane_fail(error, ANE_BAD_ARGUMENT,
                    "the framework's own -validate refuses a request of %zu inputs and %zu outputs, procedure %u, %u "
                    "events",
                    (size_t)[inputs->objects count], (size_t)[outputs->objects count], raw ? raw->procedure_index : 0,
                    raw ? raw->shared_events : 0);
  return ANE_OK;
}

ane_status ane_apple_raw_request_create(ane_backend_program *program, ane_backend_surface *const *inputs,
                                        size_t input_count, ane_backend_surface *const *outputs, size_t output_count,
                                        const ane_backend_raw_request *raw, ane_backend_request **result,
                                        ane_error *error) {
  ane_backend_request *request = calloc(1, sizeof *request);
  if (!request) return ane_fail(error, ANE_UNAVAILABLE, "out of memory for a request");
  request->program = program;
  request->has_statistics = raw && raw->performance_stats;
  ane_status status;
  @autoreleasepool {
    id<ANERequest> built = nil;
    side wrapped_inputs, wrapped_outputs;
    @try {
      status = wrap(program, inputs, input_count, &wrapped_inputs, error);
      if (status == ANE_OK) status = wrap(program, outputs, output_count, &wrapped_outputs, error);
      if (status == ANE_OK) status = build(program, &wrapped_inputs, &wrapped_outputs, raw, &built, error);
      if (status == ANE_OK) request->request = ane_hold(built);
    } @catch (id exception) {
      status = ane_fail_exception(error, ANE_EVAL_FAILED, "building a request", exception);
    }
  }
  if (status == ANE_OK) {
    *result = request;
  } else {
    ane_apple_request_destroy(request);
  }
  return status;
}

ane_status ane_apple_request_create(ane_backend_program *program, ane_backend_surface *const *inputs,
                                    size_t input_count, ane_backend_surface *const *outputs, size_t output_count,
                                    ane_backend_request **request, ane_error *error) {
  return ane_apple_raw_request_create(program, inputs, input_count, outputs, output_count, NULL, request, error);
}

void ane_apple_request_destroy(ane_backend_request *request) {
  @autoreleasepool {
    ane_drop(&request->request);
  }
  free(request);
}

static ane_status evaluate(ane_backend_request *request, ane_error *error) {
  NSError *cause = nil;
  @try {
    if ([request->program->model evaluateWithQoS:ANE_QOS options:@{} request:request->request error:&cause])
      return ANE_OK;
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_EVAL_FAILED, "evaluateWithQoS:options:request:error:", exception);
  }
  return ane_fail_cause(error, ANE_EVAL_FAILED, "evaluateWithQoS:options:request:error:", cause);
}

ane_status ane_apple_evaluate(ane_backend_request *request, const uint64_t *input_seeds, ane_error *error) {
  (void)input_seeds; /* the engine reads the surfaces themselves */
  @autoreleasepool {
    return evaluate(request, error);
  }
}
