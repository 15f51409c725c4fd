// Descriptor, model, compile, load, unload: each call of the framework once, its answer checked, and the retries.
#include <unistd.h>

#import "apple.h"

/* Waits before the second and the third compile: the compiler service may be starting anew. */
static const unsigned COMPILE_WAITS_MS[] = {250, 1000};
enum { COMPILE_TRIES = 3, LOAD_TRIES = 2, LOAD_WAIT_MS = 100 };

static void wait_ms(unsigned milliseconds) { usleep(milliseconds * 1000); }

static ane_status make_descriptor(const ane_classes *classes, NSData *text, NSDictionary *weights, id *descriptor,
                                  ane_error *error) {
  id<ANEDescriptorClass> factory = (id<ANEDescriptorClass>)classes->descriptor;
  @try {
    *descriptor = [factory modelWithMILText:text weights:weights optionsPlist:nil];
    /* Most systems refuse nil weights; a few were seen to refuse an empty dictionary instead. */
    if (!*descriptor && [weights count] == 0)
      *descriptor = [factory modelWithMILText:text weights:nil optionsPlist:nil];
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "modelWithMILText:weights:optionsPlist:", exception);
  }
  return *descriptor ? ANE_OK : ane_fail_nil(error, ANE_COMPILE_FAILED, "modelWithMILText:weights:optionsPlist:");
}

ane_status ane_make_model(const ane_classes *classes, NSData *text, NSDictionary *weights, id *model,
                          ane_error *error) {
  id descriptor = nil;
  ane_status status = make_descriptor(classes, text, weights, &descriptor, error);
  if (status != ANE_OK) return status;
  @try {
    *model = [(id<ANEModelClass>)classes->model inMemoryModelWithDescriptor:descriptor];
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "inMemoryModelWithDescriptor:", exception);
  }
  return *model ? ANE_OK : ane_fail_nil(error, ANE_COMPILE_FAILED, "inMemoryModelWithDescriptor:");
}

static bool is_cached(id<ANEModel> model) {
  @try {
    return [model respondsToSelector:@selector(compiledModelExists)] && [model compiledModelExists];
  } @catch (id exception) {
    return false; /* then it is compiled, and that call's failure is the one to report */
  }
}

static ane_status compile_once(id<ANEModel> model, bool *may_help_to_retry, ane_error *error) {
  NSError *cause = nil;
  *may_help_to_retry = false;
  @try {
    if ([model compileWithQoS:ANE_QOS options:@{} error:&cause]) return ANE_OK;
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "compileWithQoS:options:error:", exception);
  }
  /* The compiler's own verdict on the program does not change; anything else may be the service in between. */
  *may_help_to_retry = ![[cause domain] isEqualToString:@"com.apple.appleneuralengine.compiler"];
  return ane_fail_cause(error, ANE_COMPILE_FAILED, "compileWithQoS:options:error:", cause);
}

static ane_status compile(id<ANEModel> model, ane_compile_run *run, ane_error *error) {
  ane_status status = ANE_OK;
  bool again = true;
  for (unsigned try = 0; again && try < COMPILE_TRIES; try++) {
    if (try > 0) wait_ms(COMPILE_WAITS_MS[try - 1]);
    status = run->before_compile(run->context, error);
    if (status != ANE_OK) return status;
    run->compiles++;
    @autoreleasepool {
      status = compile_once(model, &again, error);
    }
    if (status == ANE_OK) return ANE_OK;
  }
  return status;
}

static ane_status load_once(id<ANEModel> model, bool *may_help_to_retry, ane_error *error) {
  NSError *cause = nil;
  *may_help_to_retry = false;
  @try {
    if ([model loadWithQoS:ANE_QOS options:@{} error:&cause]) return ANE_OK;
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "loadWithQoS:options:error:", exception);
  }
  *may_help_to_retry = true;
  return ane_fail_cause(error, ANE_COMPILE_FAILED, "loadWithQoS:options:error:", cause);
}

static ane_status load(id<ANEModel> model, unsigned tries, ane_compile_run *run, ane_error *error) {
  ane_status status = ANE_OK;
  bool again = true;
  for (unsigned try = 0; again && try < tries; try++) {
    if (try > 0) wait_ms(LOAD_WAIT_MS); /* a slot of the device may just be coming free */
    run->loads++;
    @autoreleasepool {
      status = load_once(model, &again, error);
    }
    if (status == ANE_OK) return ANE_OK;
  }
  return status;
}

ane_status ane_load_model(id<ANEModel> model, ane_compile_run *run, ane_error *error) {
  return load(model, LOAD_TRIES, run, error);
}

ane_status ane_compile_and_load(id<ANEModel> model, ane_compile_run *run, ane_error *error) {
  if (is_cached(model) && load(model, 1, run, error) == ANE_OK) {
    run->from_cache = true;
    return ANE_OK;
  }
  ane_status status = compile(model, run, error);
  return status == ANE_OK ? ane_load_model(model, run, error) : status;
}

ane_status ane_unload_model(id<ANEModel> model, ane_error *error) {
  NSError *cause = nil;
  @try {
    if ([model unloadWithQoS:ANE_QOS error:&cause]) return ANE_OK;
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_UNLOAD_FAILED, "unloadWithQoS:error:", exception);
  }
  return ane_fail_cause(error, ANE_UNLOAD_FAILED, "unloadWithQoS:error:", cause);
}
