// Stands between the device and the system (ld --wrap): the framework is "loaded" from Apple's path, and only then are
// its classes found. So the code under test is, to the letter, the code that runs on a Mac.
#include <string.h>

#import "fake.h"

static const char PATH[] = "/System/Library/PrivateFrameworks/AppleNeuralEngine.framework/AppleNeuralEngine";
static int loaded; /* read and written atomically */

void *__real_dlopen(const char *path, int flags);
void *__wrap_dlopen(const char *path, int flags);
void *__wrap_dlopen(const char *path, int flags) {
  if (!path || strcmp(path, PATH) != 0) return __real_dlopen(path, flags);
  if (fake_hidden(@"framework")) return NULL;
  __atomic_store_n(&loaded, 1, __ATOMIC_SEQ_CST);
  return &loaded;
}

Class __real_NSClassFromString(NSString *name);
Class __wrap_NSClassFromString(NSString *name);
Class __wrap_NSClassFromString(NSString *name) {
  if ([name hasPrefix:@"_ANE"] && (!__atomic_load_n(&loaded, __ATOMIC_SEQ_CST) || fake_hidden(name))) return Nil;
  return __real_NSClassFromString(name);
}
