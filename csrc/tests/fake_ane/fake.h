/* What the files of the fake framework share. */
#ifndef FAKE_H
#define FAKE_H

#import <Foundation/Foundation.h>
#import <IOSurface/IOSurfaceRef.h>

#include "device/backend.h"
#include "fake_ane.h"

/* ---- control.m ---- */
typedef enum {
  FAKE_DESCRIPTOR,
  FAKE_MODEL,
  FAKE_REQUEST,
  FAKE_SURFACE_OBJECT,
  FAKE_SURFACE,
  FAKE_OTHER, /* of classes that only probes use */
  FAKE_KINDS
} fake_kind;
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
/* Notes options that are not empty, and a QoS that is not the one that the test announced. */
void fake_check_call(unsigned int qos, NSDictionary *options);

/* Objects of the framework: counted while they live, and able to deny a method. */
@interface FakeObject : NSObject
+ (fake_kind)kind;
- (id)leaked; /* the object, with one reference too many when a test asks for it */
@end

@interface _ANEIOSurfaceObject : FakeObject {
  IOSurfaceRef surface;
}
- (IOSurfaceRef)ioSurface;
- (NSData *)bytes; /* a copy */
@end

@interface _ANEPerformanceStats : FakeObject {
  uint64_t ns;
}
@end

@interface _ANESharedEvents : FakeObject {
  NSArray *signals;
}
- (NSUInteger)count;
- (void)signal;
@end

@interface _ANERequest : FakeObject {
  NSArray *inputs, *outputs, *statistics_array;
  _ANEIOSurfaceObject *weights_buffer;
  NSNumber *procedure_index;
  _ANESharedEvents *events;
  _ANEPerformanceStats *statistics;
}
- (NSArray *)inputArray;
- (NSArray *)outputArray;
- (_ANEIOSurfaceObject *)weightsBuffer;
- (NSUInteger)procedure;
- (void)wasEvaluated;
@end

@interface _ANEInMemoryModelDescriptor : FakeObject {
  NSData *text;
  NSDictionary *weights;
}
- (NSData *)networkText;
- (NSDictionary *)weights;
- (NSString *)hexStringIdentifier;
@end

@class _ANEModel, _ANEProgramForEvaluation;
typedef struct fake_engine fake_engine;

@interface _ANEInMemoryModel : FakeObject {
  _ANEInMemoryModelDescriptor *descriptor;
  NSString *identifier;
  NSURL *directory;
  fake_engine *engine;
  BOOL loaded;
  unsigned int mask;
  _ANEModel *model;                  /* while it is loaded */
  _ANEProgramForEvaluation *program; /* the same */
}
- (uint64_t)string_id;
/* An evaluation by whatever path; `step` names it. */
- (BOOL)run:(_ANERequest *)request
       step:(const char *)step
        qos:(unsigned int)qos
    options:(NSDictionary *)options
      error:(NSError **)error;
- (BOOL)runInputs:(NSArray *)inputs outputs:(NSArray *)outputs error:(NSError **)error;
@end

/* ---- client.m ---- */
void fake_forget_chain(void); /* one that was prepared and not run stays, as far as is known */
@interface _ANEModel : FakeObject {
  _ANEInMemoryModel *owner; /* nil once it is unloaded */
}
+ (_ANEModel *)ofModel:(_ANEInMemoryModel *)owner;
- (_ANEInMemoryModel *)owner;
- (void)forgetOwner;
@end

@interface _ANEProgramForEvaluation : FakeObject {
  _ANEModel *model;
}
+ (_ANEProgramForEvaluation *)ofModel:(_ANEModel *)model;
@end

@interface _ANEBuffer : FakeObject {
 @public
  _ANEIOSurfaceObject *object;
  NSUInteger symbol;
  int64_t source;
}
@end

@interface _ANEIOSurfaceOutputSets : FakeObject {
 @public
  IOSurfaceRef statistics;
  NSArray *buffers;
}
@end

@interface _ANEChainingRequest : FakeObject {
 @public
  NSArray *inputs, *sets;
}
@end

/* ---- engine.m: a program on the emulator ---- */
/* `directory` holds model.mil and the weights; `instead`, where it is given, is the payload of all of them. NULL with
 * an error. */
fake_engine *fake_engine_create(NSString *directory, NSData *instead, NSError **error);
void fake_engine_destroy(fake_engine *engine);
NSDictionary *fake_engine_attributes(const fake_engine *engine);
BOOL fake_engine_run(fake_engine *engine, NSArray *inputs, NSArray *outputs, NSError **error);

/* ---- sha256.c ---- */
void fake_sha256(const void *const *parts, const size_t *part_bytes, size_t part_count, char hex[65]);

#endif
