// Stands between the device and the system (ld --wrap): the framework is "loaded" from Apple's path, and only then are
// its classes found. So the code under test is, to the letter, the code that runs on a Mac.
#include <objc/runtime.h>
#include <stdlib.h>
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

static BOOL is_ours(NSString *name) {
  return [name hasPrefix:@"_ANE"] || [name isEqualToString:@"IOSurfaceSharedEvent"];
}

Class __real_NSClassFromString(NSString *name);
Class __wrap_NSClassFromString(NSString *name);
Class __wrap_NSClassFromString(NSString *name) {
  if (is_ours(name) && (!__atomic_load_n(&loaded, __ATOMIC_SEQ_CST) || fake_hidden(name))) return Nil;
  return __real_NSClassFromString(name);
}

/* ---- what the framework has: without what is hidden, and with one type that is told otherwise ---- */

static BOOL method_hidden(Class class, Method method) {
  char sign = class_isMetaClass(class) ? '+' : '-';
  NSString *selector = NSStringFromSelector(method_getName(method));
  return fake_hidden([NSString stringWithFormat:@"%c[%s %@]", sign, class_getName(class), selector]);
}

Method *__real_class_copyMethodList(Class class, unsigned int *count);
Method *__wrap_class_copyMethodList(Class class, unsigned int *count);
Method *__wrap_class_copyMethodList(Class class, unsigned int *count) {
  unsigned int kept = 0;
  Method *list = __real_class_copyMethodList(class, count);
  for (unsigned int i = 0; i < *count; i++)
    if (!method_hidden(class, list[i])) list[kept++] = list[i];
  *count = kept;
  return list;
}

const char *__real_method_getTypeEncoding(Method method);
const char *__wrap_method_getTypeEncoding(Method method);
const char *__wrap_method_getTypeEncoding(Method method) {
  const char *selector = sel_getName(method_getName(method));
  return strcmp(selector, fake_setting_text("other_encoding")) == 0 ? "v16@0:8" : __real_method_getTypeEncoding(method);
}

/* Of Apple's run-time library; Linux's knows no images. */
const char *class_getImageName(Class class);
const char *class_getImageName(Class class) { return is_ours(NSStringFromClass(class)) ? PATH : ""; }

const char **objc_copyClassNamesForImage(const char *image, unsigned int *count);
const char **objc_copyClassNamesForImage(const char *image, unsigned int *count) {
  int all = objc_getClassList(NULL, 0);
  Class *classes = calloc((size_t)all, sizeof *classes);
  const char **names = calloc((size_t)all + 1, sizeof *names);
  all = objc_getClassList(classes, all);
  *count = 0;
  for (int i = 0; i < all && strcmp(image, PATH) == 0; i++) {
    NSString *name = NSStringFromClass(classes[i]);
    if ([name hasPrefix:@"_ANE"] && !fake_hidden(name)) names[(*count)++] = class_getName(classes[i]);
  }
  free(classes);
  return names;
}
