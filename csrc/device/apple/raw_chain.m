// A chain, as far as its forms are known: one request for a first set of inputs and several sets of outputs of one
// model, prepared at the service, then set off. No system is known that prepares one for a program made from text.
#import "apple.h"

/* Any surface will do, and nobody keeps it: it stays with the program. 64 bytes were seen to suffice. */
enum { STATISTICS_BYTES = 64 };
enum { SOURCE_INPUT = 0, SOURCE_OUTPUT = 1 };

typedef struct {
  id<ANEClient> client;
  id model; /* _ANEModel */
  NSMutableArray *inputs, *sets;
} chain;

static ane_status one_program(ane_backend_request *const *requests, size_t count, ane_error *error) {
  for (size_t i = 1; i < count; i++)
    if (requests[i]->program != requests[0]->program)
      return ane_fail(error, ANE_BAD_ARGUMENT,
                      "request %zu is of another program than request 0; the framework's chains are of one model", i);
  return ANE_OK;
}

/* The surface objects of one side of a request, numbered. */
static ane_status make_buffers(NSArray *objects, int64_t source, NSMutableArray *buffers, ane_error *error) {
  Class class = Nil;
  ane_status status =
      ane_find_factory(@"_ANEBuffer", @selector(bufferWithIOSurfaceObject:symbolIndex:source:), &class, error);
  for (NSUInteger i = 0; i < [objects count] && status == ANE_OK; i++) {
    id buffer = [(id<ANEBufferClass>)class bufferWithIOSurfaceObject:[objects objectAtIndex:i]
                                                         symbolIndex:@(i)
                                                              source:source];
    if (!buffer) return ane_fail_nil(error, ANE_EVAL_FAILED, "bufferWithIOSurfaceObject:symbolIndex:source:");
    [buffers addObject:buffer];
  }
  return status;
}

static ane_status add_set(ane_backend_request *request, NSMutableArray *sets, ane_error *error) {
  Class class = Nil;
  NSMutableArray *buffers = [NSMutableArray array];
  ane_backend_program *program = request->program;
  id<ANERequest> one = request->request;
  ane_status status =
      ane_find_factory(@"_ANEIOSurfaceOutputSets", @selector(objectWithstatsSurRef:outputBuffer:), &class, error);
  if (status == ANE_OK) status = ane_need_method(one, @selector(outputArray), error);
  if (status == ANE_OK) status = make_buffers([one outputArray], SOURCE_OUTPUT, buffers, error);
  if (status == ANE_OK && !program->chain_statistics)
    status = ane_apple_surface_create(program->device, STATISTICS_BYTES, &program->chain_statistics, error);
  if (status != ANE_OK) return status;
  id set = [(id<ANEOutputSetsClass>)class objectWithstatsSurRef:program->chain_statistics->surface
                                                   outputBuffer:buffers];
  if (!set) return ane_fail_nil(error, ANE_EVAL_FAILED, "objectWithstatsSurRef:outputBuffer:");
  [sets addObject:set];
  return ANE_OK;
}

static ane_status collect(ane_backend_request *const *requests, size_t count, chain *made, ane_error *error) {
  id<ANERequest> first = requests[0]->request;
  *made = (chain){.inputs = [NSMutableArray array], .sets = [NSMutableArray array]};
  ane_status status = ane_need_method(first, @selector(inputArray), error);
  if (status == ANE_OK) status = make_buffers([first inputArray], SOURCE_INPUT, made -> inputs, error);
  for (size_t i = 0; i < count && status == ANE_OK; i++) status = add_set(requests[i], made->sets, error);
  if (status == ANE_OK) status = ane_shared_client(&made->client, error);
  return status == ANE_OK ? ane_inner_model(requests[0]->program->model, &made->model, error) : status;
}

/* Arrays of symbols to loop back, or a number as the procedure, were seen to crash. */
static ane_status prepare(const chain *made, ane_error *error) {
  Class class = Nil;
  NSError *cause = nil;
  ane_status status =
      ane_find_factory(@"_ANEChainingRequest",
                       @selector(chainingRequestWithInputs:
                                                outputSets:lbInputSymbolId:lbOutputSymbolId:procedureIndex:signalEvents
                                                          :transactionHandle:fwEnqueueDelay:memoryPoolId:),
                       &class, error);
  if (status == ANE_OK)
    status = ane_need_method(made->client, @selector(prepareChainingWithModel:options:chainingReq:qos:error:), error);
  if (status != ANE_OK) return status;
  id<ANEChainingRequest> request = [(id<ANEChainingRequestClass>)class chainingRequestWithInputs:made->inputs
                                                                                      outputSets:made->sets
                                                                                 lbInputSymbolId:nil
                                                                                lbOutputSymbolId:nil
                                                                                  procedureIndex:nil
                                                                                    signalEvents:@[]
                                                                               transactionHandle:@0
                                                                                  fwEnqueueDelay:@0
                                                                                    memoryPoolId:@0];
  if (!request) return ane_fail_nil(error, ANE_EVAL_FAILED, "chainingRequestWithInputs:...:memoryPoolId:");
  if ([request respondsToSelector:@selector(validate)] && ![request validate])
    return ane_fail(error, ANE_BAD_ARGUMENT, "the framework's own -validate refuses a chain of %zu requests",
                    (size_t)[made->sets count]);
  if ([made->client prepareChainingWithModel:made->model options:@{} chainingReq:request qos:ANE_QOS error:&cause])
    return ANE_OK;
  return ane_fail_cause(error, ANE_EVAL_FAILED, "prepareChainingWithModel:options:chainingReq:qos:error:", cause);
}

/* ---- setting it off: never got this far on hardware, as far as is known ---- */

static ane_status enqueue(const chain *made, ane_error *error) {
  Class class = Nil;
  ane_status status = ane_find_factory(
      @"_ANEOutputSetEnqueue",
      @selector(outputSetWithProcedureIndex:setIndex:signalValue:signalNotRequired:isOpenLoop:), &class, error);
  if (status == ANE_OK)
    status = ane_need_method(made->client, @selector(enqueueSetsWithModel:outputSet:options:qos:error:), error);
  for (NSUInteger i = 0; i < [made->sets count] && status == ANE_OK; i++) {
    NSError *cause = nil;
    id set = [(id<ANEOutputSetEnqueueClass>)class outputSetWithProcedureIndex:0
                                                                     setIndex:(unsigned int)i
                                                                  signalValue:0
                                                            signalNotRequired:YES
                                                                   isOpenLoop:NO];
    if (!set) return ane_fail_nil(error, ANE_EVAL_FAILED, "outputSetWithProcedureIndex:setIndex:...:isOpenLoop:");
    if (![made->client enqueueSetsWithModel:made->model outputSet:set options:@{} qos:ANE_QOS error:&cause])
      status = ane_fail_cause(error, ANE_EVAL_FAILED, "enqueueSetsWithModel:outputSet:options:qos:error:", cause);
  }
  return status;
}

static ane_status start(const chain *made, ane_error *error) {
  Class class = Nil;
  NSError *cause = nil;
  NSMutableArray *indices = [NSMutableArray array], *values = [NSMutableArray array];
  ane_status status = ane_find_factory(
      @"_ANEInputBuffersReady",
      @selector(inputBuffersWithProcedureIndex:inputBufferInfoIndex:inputFreeValue:executionDelay:), &class, error);
  if (status == ANE_OK)
    status = ane_need_method(made->client, @selector(buffersReadyWithModel:inputBuffers:options:qos:error:), error);
  if (status != ANE_OK) return status;
  for (NSUInteger i = 0; i < [made->inputs count]; i++) {
    [indices addObject:@(i)];
    [values addObject:@0];
  }
  id ready = [(id<ANEInputBuffersReadyClass>)class inputBuffersWithProcedureIndex:0
                                                             inputBufferInfoIndex:indices
                                                                   inputFreeValue:values
                                                                   executionDelay:0];
  if (!ready) return ane_fail_nil(error, ANE_EVAL_FAILED, "inputBuffersWithProcedureIndex:...:executionDelay:");
  if ([made->client buffersReadyWithModel:made->model inputBuffers:ready options:@{} qos:ANE_QOS error:&cause])
    return ANE_OK;
  return ane_fail_cause(error, ANE_EVAL_FAILED, "buffersReadyWithModel:inputBuffers:options:qos:error:", cause);
}

ane_status ane_apple_raw_chain(ane_backend_request *const *requests, size_t count, ane_error *error) {
  chain made;
  ane_status status = one_program(requests, count, error);
  if (status != ANE_OK) return status;
  @autoreleasepool {
    @try {
      status = collect(requests, count, &made, error);
      if (status == ANE_OK) status = prepare(&made, error);
      if (status == ANE_OK) status = enqueue(&made, error);
      if (status == ANE_OK) status = start(&made, error);
    } @catch (id exception) {
      status = ane_fail_exception(error, ANE_EVAL_FAILED, "a chain", exception);
    }
  }
  return status;
}
