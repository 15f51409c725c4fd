/* What the files of the fake framework share. */
#ifndef FAKE_H
#define FAKE_H

#import <Foundation/Foundation.h>
#import <IOSurface/IOSurfaceRef.h>

#include "device/backend.h"
#include "fake_ane.h"

/* ---- control.m ---- */
typedef enum { FAKE_DESCRIPTOR, FAKE_MODEL, FAKE_REQUEST, FAKE_SURFACE_OBJECT, FAKE_SURFACE, FAKE_KINDS } fake_kind;
int64_t fake_setting(const char *name);
const char *fake_setting_text(const char *name);
/* Counts a call. NO: the step is to fail; `*error`, where it is given, has the reason, if there is to be one. May
 * throw. */
BOOL fake_step(const char *step, NSError **error);
BOOL fake_hidden(NSString *name);
void fake_misused(const char *what);
void fake_count_live(fake_kind kind, int change);
NSError *fake_error(NSString *domain, NSInteger code, NSString *text, NSString *reason);

/* ---- model.m ---- */
void fake_forget_compiled(void);

/* Objects of the framework: counted while they live, and able to deny a method. */
@interface FakeObject : NSObject
+ (fake_kind)kind;
- (id)leaked; /* the object, with one reference too many when a test asks for it */
@end

@interface _ANEIOSurfaceObject : FakeObject {
  IOSurfaceRef surface;
}
- (IOSurfaceRef)ioSurface;
@end

@interface _ANERequest : FakeObject {
  NSArray *inputs, *outputs;
}
- (NSArray *)inputArray;
- (NSArray *)outputArray;
@end

@interface _ANEInMemoryModelDescriptor : FakeObject {
  NSData *text;
  NSDictionary *weights;
}
- (NSData *)networkText;
- (NSDictionary *)weights;
- (NSString *)hexStringIdentifier;
@end

/* ---- engine.m: a program on the emulator ---- */
typedef struct fake_engine fake_engine;
/* `directory` holds model.mil and the weights. NULL with an error. */
fake_engine *fake_engine_create(NSString *directory, NSError **error);
void fake_engine_destroy(fake_engine *engine);
NSDictionary *fake_engine_attributes(const fake_engine *engine);
BOOL fake_engine_run(fake_engine *engine, NSArray *inputs, NSArray *outputs, NSError **error);

/* ---- sha256.c ---- */
void fake_sha256(const void *const *parts, const size_t *part_bytes, size_t part_count, char hex[65]);

#endif
