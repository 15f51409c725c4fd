// _ANEDeviceInfo: is there an engine, and which.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#import "apple.h"

bool ane_engine_present(const ane_classes *classes, char *why, size_t why_bytes) {
  id<ANEDeviceInfoClass> info = (id<ANEDeviceInfoClass>)classes->device_info;
  @try {
    if ([info respondsToSelector:@selector(isVirtualMachine)] && [info isVirtualMachine]) {
      snprintf(why, why_bytes, "this is a virtual machine, and guests do not reach the engine");
      return false;
    }
    if (![info hasANE]) {
      snprintf(why, why_bytes, "_ANEDeviceInfo says that this machine has no Neural Engine");
      return false;
    }
  } @catch (id exception) {
    ane_error error = {0};
    ane_fail_exception(&error, ANE_UNAVAILABLE, "_ANEDeviceInfo", exception);
    snprintf(why, why_bytes, "%s", error.detail);
    return false;
  }
  return true;
}

static NSString *chip_name(void) {
#ifdef __APPLE__
  char name[128] = "";
  size_t size = sizeof name;
  if (sysctlbyname("machdep.cpu.brand_string", name, &size, NULL, 0) == 0) return [NSString stringWithUTF8String:name];
#endif
  return nil;
}

/* M1 and M2 take only the older dialect with confidence. */
static NSString *dialect(NSString *sub_type) {
  return [sub_type hasPrefix:@"h13"] || [sub_type hasPrefix:@"h14"] ? @"A" : @"B";
}

static void put(NSMutableDictionary *facts, NSString *key, id value) {
  if (value) [facts setObject:value forKey:key];
}

static void collect(id<ANEDeviceInfoClass> info, NSMutableDictionary *facts) {
  put(facts, @"chip", chip_name());
  if ([info respondsToSelector:@selector(aneSubType)]) {
    put(facts, @"aneSubType", [info aneSubType]);
    put(facts, @"dialect", dialect([info aneSubType]));
  }
  if ([info respondsToSelector:@selector(aneArchitectureType)]) put(facts, @"architecture", [info aneArchitectureType]);
  if ([info respondsToSelector:@selector(productName)]) put(facts, @"product", [info productName]);
  if ([info respondsToSelector:@selector(buildVersion)]) put(facts, @"os_build", [info buildVersion]);
  if ([info respondsToSelector:@selector(numANEs)]) put(facts, @"engines", @([info numANEs]));
  if ([info respondsToSelector:@selector(numANECores)]) put(facts, @"cores", @([info numANECores]));
  put(facts, @"framework", @ANE_FRAMEWORK_PATH);
  put(facts, @"qos", @(ANE_QOS));
}

char *ane_facts_json(const ane_classes *classes) {
  NSMutableDictionary *facts = [NSMutableDictionary dictionary];
  @try {
    collect((id<ANEDeviceInfoClass>)classes->device_info, facts);
  } @catch (
      id exception) { /* the facts are for people: the device works without the rest, and they say why it is short */
    ane_error error = {0};
    ane_fail_exception(&error, ANE_UNAVAILABLE, "_ANEDeviceInfo", exception);
    put(facts, @"facts_error", [NSString stringWithUTF8String:error.detail]);
  }
  return ane_json(facts);
}

char *ane_json(NSDictionary *dictionary) {
  NSData *data = [NSJSONSerialization dataWithJSONObject:dictionary options:0 error:NULL];
  return data ? strndup([data bytes], [data length]) : NULL;
}
