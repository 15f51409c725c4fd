// Requests, and what they may carry beside surfaces: statistics and events.
#include <signal.h>
#include <unistd.h>

#import "fake.h"

/* ---- statistics ---- */

@implementation _ANEPerformanceStats
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)statsWithHardwareExecutionNS:(uint64_t)ns {
  _ANEPerformanceStats *statistics = [[[self alloc] init] autorelease];
  statistics->ns = ns;
  return statistics;
}
- (uint64_t)hwExecutionTime {
  return ns;
}
@end

@interface _ANEPerformanceStatsIOSurface : FakeObject {
  _ANEIOSurfaceObject *stats;
  int64_t type;
}
- (int64_t)statType;
@end

@implementation _ANEPerformanceStatsIOSurface
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)objectWithIOSurface:(_ANEIOSurfaceObject *)object statType:(int64_t)type {
  if (![object isKindOfClass:[_ANEIOSurfaceObject class]]) fake_misused("statistics that are no surface object");
  if (!fake_step("statistics", NULL)) return nil;
  _ANEPerformanceStatsIOSurface *statistics = [[[[self alloc] init] autorelease] leaked];
  statistics->stats = [object retain];
  statistics->type = type;
  return statistics;
}
- (void)dealloc {
  [stats release];
  [super dealloc];
}
- (int64_t)statType {
  return type;
}
@end

/* ---- events ---- */

@interface IOSurfaceSharedEvent : FakeObject {
 @public
  uint64_t signaled;
}
@end

@implementation IOSurfaceSharedEvent
+ (fake_kind)kind {
  return FAKE_OTHER;
}
- (id)init {
  if (fake_step("event", NULL)) return [super init];
  fake_count_live(FAKE_OTHER, 1); /* dealloc takes it away */
  [self release];
  return nil;
}
@end

@interface _ANESharedSignalEvent : FakeObject {
 @public
  uint64_t value;
  IOSurfaceSharedEvent *event;
}
@end

@implementation _ANESharedSignalEvent
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)signalEventWithValue:(uint64_t)value
               symbolIndex:(unsigned int)symbol
                 eventType:(int64_t)type
               sharedEvent:(IOSurfaceSharedEvent *)event {
  if (!event || symbol || type) fake_misused("a signal event of nothing");
  if (!fake_step("signal_event", NULL)) return nil;
  _ANESharedSignalEvent *signal = [[[[self alloc] init] autorelease] leaked];
  signal->value = value;
  signal->event = [event retain];
  return signal;
}
- (void)dealloc {
  [event release];
  [super dealloc];
}
@end

@implementation _ANESharedEvents
+ (fake_kind)kind {
  return FAKE_OTHER;
}
+ (id)sharedEventsWithSignalEvents:(NSArray *)signals waitEvents:(NSArray *)waits {
  if (!signals || !waits) fake_misused("shared events without arrays");
  if (!fake_step("shared_events", NULL)) return nil;
  _ANESharedEvents *events = [[[[self alloc] init] autorelease] leaked];
  events->signals = [signals retain];
  return events;
}
- (void)dealloc {
  [signals release];
  [super dealloc];
}
- (NSUInteger)count {
  return [signals count];
}
/* Three answers are known of: a crash, a hang, and, for other programs than those made from text, what one expects. */
- (void)signal {
  if (fake_setting("events") == 0) raise(SIGSEGV);
  while (fake_setting("events") == 2) usleep(1000);
  for (_ANESharedSignalEvent *one in signals) {
    if (one->value != one->event->signaled + 1) fake_misused("events that do not count up");
    one->event->signaled = one->value;
  }
}
@end

/* ---- requests ---- */

@implementation _ANERequest
+ (fake_kind)kind {
  return FAKE_REQUEST;
}
static BOOL counts_up(NSArray *indices, NSUInteger count) {
  for (NSUInteger i = 0; i < count && i < [indices count]; i++)
    if ([[indices objectAtIndex:i] unsignedIntegerValue] != i) return NO;
  return [indices count] == count;
}
+ (id)requestWithInputs:(NSArray *)inputs
           inputIndices:(NSArray *)input_indices
                outputs:(NSArray *)outputs
          outputIndices:(NSArray *)output_indices
          weightsBuffer:(id)weights_buffer
              perfStats:(NSArray *)perf_stats
         procedureIndex:(NSNumber *)procedure_index {
  if (!fake_setting("probing") && (weights_buffer || perf_stats || [procedure_index intValue] != 0))
    fake_misused("a request with more than surfaces");
  if (!counts_up(input_indices, [inputs count]) || !counts_up(output_indices, [outputs count]))
    fake_misused("a request whose indices do not count up");
  if (!fake_step("request", NULL)) return nil;
  _ANERequest *request = [[[[self alloc] init] autorelease] leaked];
  request->inputs = [inputs copy];
  request->outputs = [outputs copy];
  request->weights_buffer = [weights_buffer retain];
  request->statistics_array = [perf_stats copy];
  request->procedure_index = [procedure_index retain];
  return request;
}
- (void)dealloc {
  [inputs release];
  [outputs release];
  [weights_buffer release];
  [statistics_array release];
  [statistics release];
  [procedure_index release];
  [events release];
  [super dealloc];
}
/* At most one object of statistics per type, 0 to 2. */
- (BOOL)statisticsAreDistinct {
  NSMutableSet *types = [NSMutableSet set];
  for (_ANEPerformanceStatsIOSurface *object in statistics_array) [types addObject:@([object statType])];
  return [types count] == [statistics_array count] && [types isSubsetOfSet:[NSSet setWithObjects:@0, @1, @2, nil]];
}
- (BOOL)validate {
  return !fake_setting("invalid_request") && [inputs count] > 0 && [outputs count] > 0 &&
         [procedure_index unsignedIntegerValue] <= 128 && [events count] <= 64 && [self statisticsAreDistinct];
}
- (NSArray *)inputArray {
  return inputs;
}
- (NSArray *)outputArray {
  return outputs;
}
- (_ANEIOSurfaceObject *)weightsBuffer {
  return weights_buffer;
}
- (NSUInteger)procedure {
  return [procedure_index unsignedIntegerValue];
}
- (void)setSharedEvents:(_ANESharedEvents *)given {
  [events autorelease];
  events = [given retain];
}
- (void)setPerfStats:(_ANEPerformanceStats *)given {
  [statistics autorelease];
  statistics = [given retain];
}
- (_ANEPerformanceStats *)perfStats {
  return statistics;
}
- (void)wasEvaluated {
  uint64_t ns = (uint64_t)fake_setting("hardware_ns");
  if (ns && [statistics_array count]) [self setPerfStats:[_ANEPerformanceStats statsWithHardwareExecutionNS:ns]];
  if ([events count]) [events signal];
}
@end
