// The other ways to a loaded program: _ANEClient, _ANEProgramForEvaluation, and chains.
#import "fake.h"

@interface _ANEQoSMapper : FakeObject
@end

@implementation _ANEQoSMapper
+ (uint64_t)queueIndexForQoS:(unsigned int)qos {
  return qos / 8;
}
@end

@implementation _ANEModel
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (_ANEModel *)ofModel:(_ANEInMemoryModel *)owner {
  _ANEModel *model = [[[self alloc] init] autorelease];
  model->owner = owner;
  return model;
}
- (_ANEInMemoryModel *)owner {
  if (!owner) fake_misused("a model was used that is not loaded");
  return owner;
}
- (void)forgetOwner {
  owner = nil;
}
@end

@implementation _ANEProgramForEvaluation
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (_ANEProgramForEvaluation *)ofModel:(_ANEModel *)model {
  _ANEProgramForEvaluation *program = [[[self alloc] init] autorelease];
  program->model = [model retain];
  return program;
}
- (void)dealloc {
  [model release];
  [super dealloc];
}
- (BOOL)processRequest:(_ANERequest *)request
                 model:(_ANEModel *)given
                   qos:(unsigned int)qos
                qIndex:(uint64_t)queue_index
         modelStringID:(uint64_t)string_id
               options:(id)options
           returnValue:(uint32_t *)value
                 error:(NSError **)error {
  if (given != model || string_id != [[model owner] string_id]) fake_misused("processRequest: of another model");
  if (queue_index != [_ANEQoSMapper queueIndexForQoS:qos]) fake_misused("a queue that is not the one of the QoS");
  if ([[model owner] run:request step:"process" qos:qos options:options error:error]) return YES;
  *value = 0x1d;
  return NO;
}
@end

/* ---- chains ---- */

@implementation _ANEBuffer
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)bufferWithIOSurfaceObject:(_ANEIOSurfaceObject *)object symbolIndex:(NSNumber *)symbol source:(int64_t)source {
  if (!fake_step("buffer", NULL) || !object) return nil;
  _ANEBuffer *buffer = [[[[self alloc] init] autorelease] leaked];
  buffer->object = [object retain];
  buffer->symbol = [symbol unsignedIntValue];
  buffer->source = source;
  return buffer;
}
- (void)dealloc {
  [object release];
  [super dealloc];
}
@end

@implementation _ANEIOSurfaceOutputSets
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)objectWithstatsSurRef:(IOSurfaceRef)statistics outputBuffer:(NSArray *)buffers {
  if (!fake_step("output_sets", NULL) || !statistics || !buffers) return nil;
  _ANEIOSurfaceOutputSets *sets = [[[[self alloc] init] autorelease] leaked];
  sets->statistics = statistics; /* really not retained */
  sets->buffers = [buffers retain];
  return sets;
}
- (void)dealloc {
  [buffers release];
  [super dealloc];
}
@end

@implementation _ANEChainingRequest
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)chainingRequestWithInputs:(NSArray *)inputs
                     outputSets:(NSArray *)sets
                lbInputSymbolId:(id)loop_inputs
               lbOutputSymbolId:(id)loop_outputs
                 procedureIndex:(id)procedure_index
                   signalEvents:(NSArray *)events
              transactionHandle:(NSNumber *)transaction
                 fwEnqueueDelay:(NSNumber *)delay
                   memoryPoolId:(NSNumber *)pool {
  if (loop_inputs || loop_outputs || procedure_index) fake_misused("a chain with what crashes");
  if ([events count] || [transaction intValue] || [delay intValue] || [pool intValue])
    fake_misused("a chain with more than surfaces");
  if (!fake_step("chaining_request", NULL)) return nil;
  _ANEChainingRequest *request = [[[[self alloc] init] autorelease] leaked];
  request->inputs = [inputs retain];
  request->sets = [sets retain];
  return request;
}
- (void)dealloc {
  [inputs release];
  [sets release];
  [super dealloc];
}
static BOOL numbered(NSArray *buffers, int64_t source) {
  for (NSUInteger i = 0; i < [buffers count]; i++) {
    _ANEBuffer *buffer = [buffers objectAtIndex:i];
    if (buffer->symbol != i || buffer->source != source) return NO;
  }
  return [buffers count] > 0;
}
- (BOOL)validate {
  BOOL valid = numbered(inputs, 0) && [sets count] > 0 && [sets count] <= 12;
  for (_ANEIOSurfaceOutputSets *set in sets) valid = valid && numbered(set->buffers, 1);
  return valid;
}
@end

/* What is enqueued, and what says that the inputs are there. */
@interface _ANEOutputSetEnqueue : FakeObject {
 @public
  unsigned int set;
}
@end

@implementation _ANEOutputSetEnqueue
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)outputSetWithProcedureIndex:(unsigned int)procedure_index
                         setIndex:(unsigned int)set
                      signalValue:(uint64_t)value
                signalNotRequired:(BOOL)silent
                       isOpenLoop:(BOOL)open {
  if (procedure_index || value || !silent || open) fake_misused("an output set with more than its number");
  if (!fake_step("output_set", NULL)) return nil;
  _ANEOutputSetEnqueue *enqueue = [[[[self alloc] init] autorelease] leaked];
  enqueue->set = set;
  return enqueue;
}
@end

@interface _ANEInputBuffersReady : FakeObject {
 @public
  NSUInteger count;
}
@end

@implementation _ANEInputBuffersReady
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)inputBuffersWithProcedureIndex:(unsigned int)procedure_index
                inputBufferInfoIndex:(NSArray *)indices
                      inputFreeValue:(NSArray *)values
                      executionDelay:(uint64_t)delay {
  if (procedure_index || delay || [indices count] != [values count]) fake_misused("inputs that make no sense");
  if (!fake_step("inputs_ready", NULL)) return nil;
  _ANEInputBuffersReady *ready = [[[[self alloc] init] autorelease] leaked];
  ready->count = [indices count];
  return ready;
}
@end

/* ---- the client ---- */

/* One, for good, and so not counted as alive. */
@interface _ANEClient : FakeObject {
  _ANEChainingRequest *prepared;
  NSUInteger enqueued;
  BOOL in_task;
}
- (void)forgetChain;
@end

static _ANEClient *client;

@implementation _ANEClient
+ (id)sharedConnection {
  @synchronized([FakeObject class]) {
    if (!client) client = [self alloc];
  }
  return fake_step("connection", NULL) ? client : nil;
}

- (BOOL)evaluateWithModel:(_ANEModel *)model
                  options:(id)options
                  request:(_ANERequest *)request
                      qos:(unsigned int)qos
                    error:(NSError **)error {
  return [[model owner] run:request step:"client" qos:qos options:options error:error];
}
- (BOOL)doEvaluateDirectWithModel:(_ANEModel *)model
                          options:(id)options
                          request:(_ANERequest *)request
                              qos:(unsigned int)qos
                            error:(NSError **)error {
  return [[model owner] run:request step:"direct" qos:qos options:options error:error];
}
- (BOOL)evaluateRealTimeWithModel:(_ANEModel *)model
                          options:(id)options
                          request:(_ANERequest *)request
                            error:(NSError **)error {
  unsigned int any = (unsigned int)fake_setting("qos");
  if (fake_setting("real_time") && !in_task) fake_misused("a real-time evaluation without a task");
  return [[model owner] run:request step:"real_time" qos:any options:options error:error];
}
/* Without an entitlement: NO. */
- (BOOL)beginRealTimeTask {
  if (in_task) fake_misused("a real-time task was begun twice");
  if (!fake_step("begin", NULL) || !fake_setting("real_time")) return NO;
  in_task = YES;
  fake_count_live(FAKE_OTHER, 1);
  return YES;
}
- (BOOL)endRealTimeTask {
  if (!in_task) fake_misused("a real-time task was ended that was not granted");
  in_task = NO;
  fake_count_live(FAKE_OTHER, -1);
  return fake_step("end", NULL);
}

- (BOOL)prepareChainingWithModel:(_ANEModel *)model
                         options:(id)options
                     chainingReq:(_ANEChainingRequest *)request
                             qos:(unsigned int)qos
                           error:(NSError **)error {
  fake_check_call(qos, options);
  if (![model owner] || !fake_step("prepare", error)) return NO;
  if (!fake_setting("chaining")) {
    if (error) *error = fake_error(@"com.apple.appleneuralengine", 15, @"ANEProgramChainingPrepare() Failed", nil);
    return NO;
  }
  [self forgetChain];
  prepared = [request retain];
  enqueued = 0;
  return YES;
}
- (void)forgetChain {
  [prepared release];
  prepared = nil;
}
- (BOOL)enqueueSetsWithModel:(_ANEModel *)model
                   outputSet:(_ANEOutputSetEnqueue *)set
                     options:(id)options
                         qos:(unsigned int)qos
                       error:(NSError **)error {
  fake_check_call(qos, options);
  if (![model owner] || set->set != enqueued++) fake_misused("a set was enqueued out of turn");
  return fake_step("enqueue", error);
}
/* The first output of a set becomes the first input of the next. */
- (BOOL)runChainOn:(_ANEInMemoryModel *)model error:(NSError **)error {
  NSMutableArray *inputs = [NSMutableArray array];
  for (_ANEBuffer *buffer in prepared->inputs) [inputs addObject:buffer->object];
  for (_ANEIOSurfaceOutputSets *set in prepared->sets) {
    NSMutableArray *outputs = [NSMutableArray array];
    for (_ANEBuffer *buffer in set->buffers) [outputs addObject:buffer->object];
    if (!IOSurfaceGetAllocSize(set->statistics) || ![model runInputs:inputs outputs:outputs error:error]) return NO;
    [inputs replaceObjectAtIndex:0 withObject:[outputs objectAtIndex:0]];
  }
  return YES;
}
- (BOOL)buffersReadyWithModel:(_ANEModel *)model
                 inputBuffers:(_ANEInputBuffersReady *)ready
                      options:(id)options
                          qos:(unsigned int)qos
                        error:(NSError **)error {
  fake_check_call(qos, options);
  if (ready->count != [prepared->inputs count] || enqueued != [prepared->sets count])
    fake_misused("a chain was set off that is not complete");
  BOOL done = fake_step("buffers_ready", error) && [self runChainOn:[model owner] error:error];
  [self forgetChain];
  return done;
}
@end

void fake_forget_chain(void) {
  @autoreleasepool {
    [client forgetChain];
  }
}
