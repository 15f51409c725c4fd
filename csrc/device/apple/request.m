// Requests: surfaces bound by position, built once, evaluated many times.
#include <stdlib.h>

#import "apple.h"

/* Wraps the surfaces and numbers them 0..count-1. */
static ane_status wrap(ane_backend_program *program, ane_backend_surface *const *surfaces, size_t count,
                       NSMutableArray *objects, NSMutableArray *indices, ane_error *error) {
  id<ANESurfaceObjectClass> factory = (id<ANESurfaceObjectClass>)program->device->classes.surface_object;
  for (size_t i = 0; i < count; i++) {
    id object = [factory objectWithIOSurface:surfaces[i]->surface];
    if (!object) return ane_fail_nil(error, ANE_SURFACE_ERROR, "objectWithIOSurface:");
    [objects addObject:object];
    [indices addObject:@(i)];
  }
  return ANE_OK;
}

static ane_status build(ane_backend_program *program, ane_backend_surface *const *inputs, size_t input_count,
                        ane_backend_surface *const *outputs, size_t output_count, id<ANERequest> *request,
                        ane_error *error) {
  NSMutableArray *input_objects = [NSMutableArray array], *input_indices = [NSMutableArray array];
  NSMutableArray *output_objects = [NSMutableArray array], *output_indices = [NSMutableArray array];
  ane_status status = wrap(program, inputs, input_count, input_objects, input_indices, error);
  if (status == ANE_OK) status = wrap(program, outputs, output_count, output_objects, output_indices, error);
  if (status != ANE_OK) return status;
  *request = [(id<ANERequestClass>)program->device->classes.request requestWithInputs:input_objects
                                                                         inputIndices:input_indices
                                                                              outputs:output_objects
                                                                        outputIndices:output_indices
                                                                        weightsBuffer:nil
                                                                            perfStats:nil
                                                                       procedureIndex:@0];
  if (!*request) return ane_fail_nil(error, ANE_EVAL_FAILED, "requestWithInputs:...:procedureIndex:");
  if ([*request respondsToSelector:@selector(validate)] && ![*request validate])
    return ane_fail(error, ANE_BAD_ARGUMENT,
                    "the framework's own -validate refuses a request of %zu inputs and %zu outputs", input_count,
                    output_count);
  return ANE_OK;
}

ane_status ane_apple_request_create(ane_backend_program *program, ane_backend_surface *const *inputs,
                                    size_t input_count, ane_backend_surface *const *outputs, size_t output_count,
                                    ane_backend_request **result, ane_error *error) {
  ane_backend_request *request = calloc(1, sizeof *request);
  if (!request) return ane_fail(error, ANE_UNAVAILABLE, "out of memory for a request");
  request->program = program;
  ane_status status;
  @autoreleasepool {
    id<ANERequest> built = nil;
    @try {
      status = build(program, inputs, input_count, outputs, output_count, &built, error);
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
