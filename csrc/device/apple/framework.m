// Finds the private framework, its classes and the selectors that are used. Nothing else in this folder looks anything
// up.
#include <dlfcn.h>
#include <stdio.h>

#import "apple.h"

typedef struct {
  NSString *class_name;
  Class *class;
  SEL class_methods[2], instance_methods[6]; /* ended by NULL */
} requirement;

static bool check(const requirement *need, char *why, size_t why_bytes) {
  *need->class = NSClassFromString(need->class_name);
  if (!*need->class) {
    snprintf(why, why_bytes, "AppleNeuralEngine.framework has no class %s on this system", ane_text(need->class_name));
    return false;
  }
  SEL missing = NULL;
  char kind = '+';
  for (const SEL *method = need->class_methods; *method && !missing; method++)
    if (![*need->class respondsToSelector:*method]) missing = *method;
  for (const SEL *method = need->instance_methods; *method && !missing; method++) {
    if ([*need->class instancesRespondToSelector:*method]) continue;
    missing = *method;
    kind = '-';
  }
  if (!missing) return true;
  snprintf(why, why_bytes, "AppleNeuralEngine.framework lacks %c[%s %s] on this system", kind,
           ane_text(need->class_name), ane_text(NSStringFromSelector(missing)));
  return false;
}

bool ane_load_framework(ane_classes *classes, char *why, size_t why_bytes) {
  /* Never closed: Objective-C classes cannot be unloaded. */
  if (!dlopen(ANE_FRAMEWORK_PATH, RTLD_NOW)) {
    const char *reason = dlerror();
    snprintf(why, why_bytes, "AppleNeuralEngine.framework does not load: %s", reason ? reason : "no reason given");
    return false;
  }
  const requirement needs[] = {
      {@"_ANEInMemoryModelDescriptor", &classes->descriptor, {@selector(modelWithMILText:weights:optionsPlist:)}, {0}},
      {@"_ANEInMemoryModel",
       &classes->model,
       {@selector(inMemoryModelWithDescriptor:)},
       {@selector(hexStringIdentifier), @selector(compileWithQoS:options:error:), @selector(loadWithQoS:options:error:),
        @selector(evaluateWithQoS:options:request:error:), @selector(unloadWithQoS:error:)}},
      {@"_ANERequest",
       &classes->request,
       {@selector(requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:)},
       {0}},
      {@"_ANEIOSurfaceObject", &classes->surface_object, {@selector(objectWithIOSurface:)}, {0}},
      {@"_ANEDeviceInfo", &classes->device_info, {@selector(hasANE)}, {0}},
  };
  for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++)
    if (!check(&needs[i], why, why_bytes)) return false;
  return true;
}
