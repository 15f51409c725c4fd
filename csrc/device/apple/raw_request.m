// What only probes put into a request: a weights buffer, statistics, events. request.m builds the rest.
#import "apple.h"

/* Type 0 of 0..2; how long such a surface has to be is not known, so it has what others gave. */
enum { STATISTICS_TYPE = 0, STATISTICS_BYTES = 65536 };

/* The object that takes the statistics keeps the surface object, and that the surface. */
static ane_status make_statistics(ane_backend_program *program, NSArray **statistics, ane_error *error) {
  Class class = Nil;
  ane_backend_surface *surface = NULL;
  id wrapped = nil, object = nil;
  ane_status status =
      ane_find_factory(@"_ANEPerformanceStatsIOSurface", @selector(objectWithIOSurface:statType:), &class, error);
  if (status != ANE_OK) return status;
  status = ane_apple_surface_create(program->device, STATISTICS_BYTES, &surface, error);
  if (status != ANE_OK) return status;
  @try {
    status = ane_wrap_surface(program, surface, &wrapped, error);
    if (status == ANE_OK)
      object = [(id<ANEStatsSurfaceClass>)class objectWithIOSurface:wrapped statType:STATISTICS_TYPE];
  } @finally {
    ane_apple_surface_destroy(surface);
  }
  if (status != ANE_OK) return status;
  if (!object) return ane_fail_nil(error, ANE_EVAL_FAILED, "objectWithIOSurface:statType:");
  *statistics = @[ object ];
  return ANE_OK;
}

ane_status ane_raw_parts(ane_backend_program *program, const ane_backend_raw_request *raw, ane_request_parts *parts,
                         ane_error *error) {
  ane_status status = ANE_OK;
  parts->procedure_index = @(raw->procedure_index);
  if (raw->weights_buffer) status = ane_wrap_surface(program, raw->weights_buffer, &parts->weights_buffer, error);
  if (status == ANE_OK && raw->performance_stats) status = make_statistics(program, &parts->statistics, error);
  return status;
}

/* ---- events ---- */

/* One shared event, which the engine would signal with 1, 2, 3, ... */
static ane_status make_signals(uint32_t count, NSMutableArray *signals, ane_error *error) {
  Class event_class = Nil, signal_class = Nil;
  ane_status status = ane_find_class(@"IOSurfaceSharedEvent", &event_class, error);
  if (status != ANE_OK) return status;
  status = ane_find_factory(@"_ANESharedSignalEvent",
                            @selector(signalEventWithValue:symbolIndex:eventType:sharedEvent:), &signal_class, error);
  if (status != ANE_OK) return status;
  id event = [[[event_class alloc] init] autorelease];
  if (!event) return ane_fail_nil(error, ANE_EVAL_FAILED, "-[IOSurfaceSharedEvent init]");
  for (uint32_t i = 0; i < count; i++) {
    id signal = [(id<ANESignalEventClass>)signal_class signalEventWithValue:i + 1
                                                                symbolIndex:0
                                                                  eventType:0
                                                                sharedEvent:event];
    if (!signal) return ane_fail_nil(error, ANE_EVAL_FAILED, "signalEventWithValue:symbolIndex:eventType:sharedEvent:");
    [signals addObject:signal];
  }
  return ANE_OK;
}

ane_status ane_raw_attach_events(id<ANERequest> request, uint32_t count, ane_error *error) {
  Class class = Nil;
  NSMutableArray *signals = [NSMutableArray array];
  ane_status status =
      ane_find_factory(@"_ANESharedEvents", @selector(sharedEventsWithSignalEvents:waitEvents:), &class, error);
  if (status == ANE_OK) status = ane_need_method(request, @selector(setSharedEvents:), error);
  if (status == ANE_OK) status = make_signals(count, signals, error);
  if (status != ANE_OK) return status;
  id events = [(id<ANESharedEventsClass>)class sharedEventsWithSignalEvents:signals waitEvents:@[]];
  if (!events) return ane_fail_nil(error, ANE_EVAL_FAILED, "sharedEventsWithSignalEvents:waitEvents:");
  [request setSharedEvents:events];
  return ANE_OK;
}
