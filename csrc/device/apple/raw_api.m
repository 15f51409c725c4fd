// What the framework of this system has, and what our protocols take it to have: names and type encodings, for people
// and for probes to compare. Only asks the Objective-C run-time library; no method of the framework is called.
#include <objc/runtime.h>
#include <stdlib.h>

#import "apple.h"

/* Apple's run-time library has these; Linux's knows no images, and there the fake framework brings its own. */
extern const char *class_getImageName(Class class);
extern const char **objc_copyClassNamesForImage(const char *image, unsigned int *count);

/* Makes the compiler emit the protocols, and the run-time library of Linux know them. Has no object and no method. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wprotocol"
@interface ANETrainProtocols : NSObject <ANEDescriptorClass,
                                         ANEModelClass,
                                         ANEModel,
                                         ANESurfaceObjectClass,
                                         ANERequestClass,
                                         ANERequest,
                                         ANEDeviceInfoClass,
                                         ANEClientClass,
                                         ANEClient,
                                         ANEProgram,
                                         ANEQoSMapperClass,
                                         ANEStatsSurfaceClass,
                                         ANEPerformanceStats,
                                         ANESharedEventsClass,
                                         ANESignalEventClass,
                                         ANEBufferClass,
                                         ANEOutputSetsClass,
                                         ANEChainingRequestClass,
                                         ANEChainingRequest,
                                         ANEOutputSetEnqueueClass,
                                         ANEInputBuffersReadyClass>
@end
@implementation ANETrainProtocols
@end
#pragma clang diagnostic pop

static NSString *string(const char *text) { return [NSString stringWithUTF8String:text ? text : ""]; }

/* Its own methods, not those that it inherits. */
static NSDictionary *methods(Class class) {
  NSMutableDictionary *found = [NSMutableDictionary dictionary];
  unsigned int count = 0;
  Method *list = class_copyMethodList(class, &count);
  for (unsigned int i = 0; i < count; i++)
    [found setObject:string(method_getTypeEncoding(list[i])) forKey:NSStringFromSelector(method_getName(list[i]))];
  free(list);
  return found;
}

static void add_expected(NSMutableDictionary *expected, NSString *sign, Protocol *protocol) {
  unsigned int count = 0;
  struct objc_method_description *list = protocol_copyMethodDescriptionList(protocol, YES, YES, &count);
  for (unsigned int i = 0; i < count; i++)
    [expected setObject:string(list[i].types) forKey:[sign stringByAppendingString:NSStringFromSelector(list[i].name)]];
  free(list);
}

static NSDictionary *describe(NSString *name, Protocol *class_side, Protocol *instance_side) {
  NSMutableDictionary *expected = [NSMutableDictionary dictionary];
  if (class_side) add_expected(expected, @"+", class_side);
  if (instance_side) add_expected(expected, @"-", instance_side);
  Class class = NSClassFromString(name);
  return @{
    @"found" : [NSNumber numberWithBool:class != Nil],
    @"class_methods" : class ? methods(object_getClass(class)) : @{},
    @"instance_methods" : class ? methods(class) : @{},
    @"expected" : expected,
  };
}

static NSDictionary *known_classes(void) {
  const struct {
    NSString *name;
    Protocol *class_side, *instance_side;
  } known[] = {
      {@"_ANEInMemoryModelDescriptor", @protocol(ANEDescriptorClass), nil},
      {@"_ANEInMemoryModel", @protocol(ANEModelClass), @protocol(ANEModel)},
      {@"_ANEIOSurfaceObject", @protocol(ANESurfaceObjectClass), nil},
      {@"_ANERequest", @protocol(ANERequestClass), @protocol(ANERequest)},
      {@"_ANEDeviceInfo", @protocol(ANEDeviceInfoClass), nil},
      {@"_ANEClient", @protocol(ANEClientClass), @protocol(ANEClient)},
      {@"_ANEProgramForEvaluation", nil, @protocol(ANEProgram)},
      {@"_ANEQoSMapper", @protocol(ANEQoSMapperClass), nil},
      {@"_ANEPerformanceStatsIOSurface", @protocol(ANEStatsSurfaceClass), nil},
      {@"_ANEPerformanceStats", nil, @protocol(ANEPerformanceStats)},
      {@"_ANESharedEvents", @protocol(ANESharedEventsClass), nil},
      {@"_ANESharedSignalEvent", @protocol(ANESignalEventClass), nil},
      {@"_ANEBuffer", @protocol(ANEBufferClass), nil},
      {@"_ANEIOSurfaceOutputSets", @protocol(ANEOutputSetsClass), nil},
      {@"_ANEChainingRequest", @protocol(ANEChainingRequestClass), @protocol(ANEChainingRequest)},
      {@"_ANEOutputSetEnqueue", @protocol(ANEOutputSetEnqueueClass), nil},
      {@"_ANEInputBuffersReady", @protocol(ANEInputBuffersReadyClass), nil},
  };
  NSMutableDictionary *classes = [NSMutableDictionary dictionary];
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    [classes setObject:describe(known[i].name, known[i].class_side, known[i].instance_side) forKey:known[i].name];
  return classes;
}

static NSArray *other_classes(const char *image, NSDictionary *known) {
  NSMutableArray *others = [NSMutableArray array];
  unsigned int count = 0;
  const char **names = objc_copyClassNamesForImage(image, &count);
  for (unsigned int i = 0; i < count; i++)
    if (![known objectForKey:string(names[i])]) [others addObject:string(names[i])];
  free(names);
  return others;
}

/* As the framework's Info.plist says; "" when it does not. */
static NSString *version(void) {
  NSString *folder = string(ANE_FRAMEWORK_FOLDER);
  NSString *found = [[NSBundle bundleWithPath:folder] objectForInfoDictionaryKey:@"CFBundleVersion"];
  return [found isKindOfClass:[NSString class]] ? found : @"";
}

ane_status ane_apple_raw_api(ane_backend_device *device, char **json, ane_error *error) {
  @autoreleasepool {
    const char *image = class_getImageName(device->classes.model);
    NSDictionary *classes = known_classes();
    *json = ane_json(@{
      @"framework" : string(image),
      @"version" : version(),
      @"classes" : classes,
      @"other_classes" : other_classes(image, classes),
    });
  }
  return *json ? ANE_OK : ane_fail(error, ANE_UNAVAILABLE, "the classes could not be written as JSON");
}
