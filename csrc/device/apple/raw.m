// Evaluations over every path that the framework has, and how what only probes use is found: a class or method that
// this system lacks is an error that names it, when it is needed and not before.
#import "apple.h"

ane_status ane_find_class(NSString *name, Class *class, ane_error *error) {
  *class = NSClassFromString(name);
  return *class ? ANE_OK : ane_fail(error, ANE_UNAVAILABLE, "there is no class %s on this system", ane_text(name));
}

ane_status ane_need_method(id object, SEL method, ane_error *error) {
  if ([object respondsToSelector:method]) return ANE_OK;
  return ane_fail(error, ANE_UNAVAILABLE, "AppleNeuralEngine.framework lacks %c[%s %s] on this system",
                  [object class] == object ? '+' : '-', ane_text(NSStringFromClass([object class])),
                  ane_text(NSStringFromSelector(method)));
}

ane_status ane_find_factory(NSString *name, SEL method, Class *class, ane_error *error) {
  ane_status status = ane_find_class(name, class, error);
  return status == ANE_OK ? ane_need_method(*class, method, error) : status;
}

ane_status ane_shared_client(id<ANEClient> *client, ane_error *error) {
  Class class = Nil;
  ane_status status = ane_find_factory(@"_ANEClient", @selector(sharedConnection), &class, error);
  if (status != ANE_OK) return status;
  *client = [(id<ANEClientClass>)class sharedConnection];
  return *client ? ANE_OK : ane_fail_nil(error, ANE_EVAL_FAILED, "sharedConnection");
}

/* A shell made from the program's directory instead is not loaded, whatever it says. */
ane_status ane_inner_model(id<ANEModel> model, id *inner, ane_error *error) {
  ane_status status = ane_need_method(model, @selector(model), error);
  if (status != ANE_OK) return status;
  *inner = [model model];
  return *inner ? ANE_OK : ane_fail_nil(error, ANE_EVAL_FAILED, "-[_ANEInMemoryModel model]");
}

/* ---- the paths: each may throw ---- */

typedef struct {
  id<ANEModel> model;
  id request;
  unsigned int qos;
  ane_raw_result *result;
} evaluation;

static ane_status answer(BOOL done, const char *doing, NSError *cause, ane_error *error) {
  return done ? ANE_OK : ane_fail_cause(error, ANE_EVAL_FAILED, doing, cause);
}

static ane_status run_standard(const evaluation *run, const char *doing, ane_error *error) {
  NSError *cause = nil;
  BOOL done = [run->model evaluateWithQoS:run->qos options:@{} request:run->request error:&cause];
  return answer(done, doing, cause, error);
}

/* What the three paths through the client begin with. */
static ane_status find_client(const evaluation *run, SEL method, id<ANEClient> *client, id *inner, ane_error *error) {
  ane_status status = ane_shared_client(client, error);
  if (status == ANE_OK) status = ane_need_method(*client, method, error);
  return status == ANE_OK ? ane_inner_model(run->model, inner, error) : status;
}

static ane_status run_client(const evaluation *run, const char *doing, ane_error *error) {
  NSError *cause = nil;
  id<ANEClient> client = nil;
  id inner = nil;
  ane_status status = find_client(run, @selector(evaluateWithModel:options:request:qos:error:), &client, &inner, error);
  if (status != ANE_OK) return status;
  BOOL done = [client evaluateWithModel:inner options:@{} request:run->request qos:run->qos error:&cause];
  return answer(done, doing, cause, error);
}

static ane_status run_direct(const evaluation *run, const char *doing, ane_error *error) {
  NSError *cause = nil;
  id<ANEClient> client = nil;
  id inner = nil;
  ane_status status =
      find_client(run, @selector(doEvaluateDirectWithModel:options:request:qos:error:), &client, &inner, error);
  if (status != ANE_OK) return status;
  BOOL done = [client doEvaluateDirectWithModel:inner options:@{} request:run->request qos:run->qos error:&cause];
  return answer(done, doing, cause, error);
}

/* Without an entitlement the task is not granted, and the evaluation is known to work all the same. It has a QoS of its
 * own. What was begun is ended, whatever happens in between. */
static ane_status run_real_time(const evaluation *run, const char *doing, ane_error *error) {
  NSError *cause = nil;
  id<ANEClient> client = nil;
  id inner = nil;
  BOOL ended = YES;
  ane_status status =
      find_client(run, @selector(evaluateRealTimeWithModel:options:request:error:), &client, &inner, error);
  if (status == ANE_OK) status = ane_need_method(client, @selector(beginRealTimeTask), error);
  if (status == ANE_OK) status = ane_need_method(client, @selector(endRealTimeTask), error);
  if (status != ANE_OK) return status;
  BOOL granted = [client beginRealTimeTask];
  run->result->real_time_granted = granted;
  @try {
    status = answer([client evaluateRealTimeWithModel:inner options:@{} request:run->request error:&cause], doing,
                    cause, error);
  } @finally {
    if (granted) ended = [client endRealTimeTask];
  }
  return status == ANE_OK ? answer(ended, "endRealTimeTask", nil, error) : status;
}

static ane_status run_process(const evaluation *run, const char *doing, ane_error *error) {
  NSError *cause = nil;
  Class mapper = Nil;
  id inner = nil;
  uint32_t value = 0;
  ane_status status = ane_find_factory(@"_ANEQoSMapper", @selector(queueIndexForQoS:), &mapper, error);
  if (status == ANE_OK) status = ane_inner_model(run->model, &inner, error);
  if (status == ANE_OK) status = ane_need_method(run->model, @selector(program), error);
  if (status == ANE_OK) status = ane_need_method(run->model, @selector(string_id), error);
  if (status != ANE_OK) return status;
  id<ANEProgram> program = [run->model program];
  if (!program) return ane_fail_nil(error, ANE_EVAL_FAILED, "-[_ANEInMemoryModel program]");
  status = ane_need_method(program, @selector(processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:),
                           error);
  if (status != ANE_OK) return status;
  BOOL done = [program processRequest:run->request
                                model:inner
                                  qos:run->qos
                               qIndex:[(id<ANEQoSMapperClass>)mapper queueIndexForQoS:run->qos]
                        modelStringID:[run->model string_id]
                              options:@{}
                          returnValue:&value
                                error:&cause];
  if (!done && !cause)
    return ane_fail(error, ANE_EVAL_FAILED, "%s answered NO without an NSError, and returned 0x%x", doing, value);
  return answer(done, doing, cause, error);
}

/* ---- statistics ---- */

/* The framework leaves them at the request; those of an earlier evaluation must not look new. */
static ane_status forget_statistics(id<ANERequest> request, ane_error *error) {
  ane_status status = ane_need_method(request, @selector(setPerfStats:), error);
  if (status == ANE_OK) [request setPerfStats:nil];
  return status;
}

static ane_status read_statistics(id<ANERequest> request, ane_raw_result *result, ane_error *error) {
  ane_status status = ane_need_method(request, @selector(perfStats), error);
  if (status != ANE_OK) return status;
  id<ANEPerformanceStats> statistics = [request perfStats];
  if (!statistics) return ANE_OK; /* the engine gave none */
  status = ane_need_method(statistics, @selector(hwExecutionTime), error);
  if (status != ANE_OK) return status;
  result->has_stats = true;
  result->hardware_ns = [statistics hwExecutionTime];
  return ANE_OK;
}

static const struct {
  const char *doing;
  ane_status (*run)(const evaluation *run, const char *doing, ane_error *error);
} paths[] = {
    [ANE_RAW_STANDARD] = {"evaluateWithQoS:options:request:error:", run_standard},
    [ANE_RAW_CLIENT] = {"evaluateWithModel:options:request:qos:error:", run_client},
    [ANE_RAW_DIRECT] = {"doEvaluateDirectWithModel:options:request:qos:error:", run_direct},
    [ANE_RAW_REAL_TIME] = {"evaluateRealTimeWithModel:options:request:error:", run_real_time},
    [ANE_RAW_PROCESS] = {"processRequest:model:qos:qIndex:modelStringID:options:returnValue:error:", run_process},
};

static ane_status evaluate(ane_backend_request *request, unsigned int qos, ane_raw_path path, ane_raw_result *result,
                           ane_error *error) {
  const evaluation run = {request->program->model, request->request, qos, result};
  ane_status status = ANE_OK;
  if (request->has_statistics) status = forget_statistics(request->request, error);
  if (status == ANE_OK) status = paths[path].run(&run, paths[path].doing, error);
  if (status == ANE_OK && request->has_statistics) status = read_statistics(request->request, result, error);
  return status;
}

static ane_status raw_evaluate(ane_backend_request *request, const uint64_t *input_seeds, uint32_t qos,
                               ane_raw_path path, ane_raw_result *result, ane_error *error) {
  (void)input_seeds; /* the engine reads the surfaces themselves */
  @autoreleasepool {
    @try {
      return evaluate(request, qos, path, result, error);
    } @catch (id exception) {
      return ane_fail_exception(error, ANE_EVAL_FAILED, paths[path].doing, exception);
    }
  }
}

const ane_backend_raw ane_apple_raw = {
    .api = ane_apple_raw_api,
    .request_create = ane_apple_raw_request_create,
    .evaluate = raw_evaluate,
    .reload = ane_apple_raw_reload,
    .set_stats_mask = ane_apple_raw_set_stats_mask,
    .chain = ane_apple_raw_chain,
};
