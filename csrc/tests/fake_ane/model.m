// The four classes that make a program run, and the one that describes the machine. Only what is documented of them.
#include <unistd.h>

#import "fake.h"

/* What the compiler service keeps: identifiers of programs, and directories that hold copies of their files. */
static NSMutableDictionary *compiled;

static NSMutableDictionary *compiled_programs(void) {
  @synchronized([FakeObject class]) {
    if (!compiled) compiled = [[NSMutableDictionary alloc] init];
    return compiled;
  }
}

void fake_forget_compiled(void) {
  @autoreleasepool {
    @synchronized([FakeObject class]) {
      for (NSString *directory in [compiled allValues])
        [[NSFileManager defaultManager] removeItemAtPath:directory error:NULL];
      [compiled removeAllObjects];
    }
  }
}

@implementation _ANEInMemoryModelDescriptor
+ (fake_kind)kind {
  return FAKE_DESCRIPTOR;
}
+ (id)modelWithMILText:(NSData *)text weights:(NSDictionary *)weights optionsPlist:(NSData *)options {
  int64_t refuse = fake_setting("refuse_no_weights");
  if (![text isKindOfClass:[NSData class]]) fake_misused("MIL text that is not NSData");
  if (options) fake_misused("options that are not nil");
  if (!fake_step("descriptor", NULL)) return nil;
  if ((refuse > 0 && weights && [weights count] == 0) || (refuse != 1 && !weights)) return nil;
  _ANEInMemoryModelDescriptor *descriptor = [[[[self alloc] init] autorelease] leaked];
  descriptor->text = [text copy];
  descriptor->weights = [weights copy];
  return descriptor;
}
- (void)dealloc {
  [text release];
  [weights release];
  [super dealloc];
}
- (NSData *)networkText {
  return text;
}
- (NSDictionary *)weights {
  return weights;
}
static NSString *hex_sha256(NSArray *parts) {
  const void *bytes[256];
  size_t sizes[256], count = 0;
  for (NSData *part in parts) {
    bytes[count] = [part bytes];
    sizes[count++] = [part length];
    if (count == 256) break;
  }
  char hex[65];
  fake_sha256(bytes, sizes, count, hex);
  return [NSString stringWithUTF8String:hex];
}
- (NSString *)hexStringIdentifier {
  NSMutableArray *blobs = [NSMutableArray arrayWithObject:[NSMutableData dataWithLength:4]];
  for (NSString *key in [[weights allKeys] sortedArrayUsingSelector:@selector(compare:)])
    [blobs addObject:[[weights objectForKey:key] objectForKey:@"data"]];
  return [NSString stringWithFormat:@"%@_%@_%@", hex_sha256(@[ text ]), hex_sha256(blobs), hex_sha256(@[])];
}
@end

@interface _ANEInMemoryModel : FakeObject {
  _ANEInMemoryModelDescriptor *descriptor;
  NSString *identifier;
  NSURL *directory;
  fake_engine *engine;
  BOOL loaded;
}
@end

static void check_call(unsigned int qos, NSDictionary *options) {
  if (qos != 21) fake_misused("a QoS that is not 21");
  if (!options || [options count] > 0) fake_misused("options that are not an empty dictionary");
}

@implementation _ANEInMemoryModel
+ (fake_kind)kind {
  return FAKE_MODEL;
}
+ (id)inMemoryModelWithDescriptor:(_ANEInMemoryModelDescriptor *)descriptor {
  if (!fake_step("model", NULL)) return nil;
  _ANEInMemoryModel *model = [[[[self alloc] init] autorelease] leaked];
  model->descriptor = [descriptor retain];
  model->identifier = [[descriptor hexStringIdentifier] copy];
  return model;
}
- (void)dealloc {
  if (loaded) fake_misused("a model was released while it was loaded");
  fake_engine_destroy(engine);
  [descriptor release];
  [identifier release];
  [directory release];
  [super dealloc];
}
- (NSString *)hexStringIdentifier {
  return fake_step("identifier", NULL) ? identifier : nil;
}
- (void)setModelURL:(NSURL *)url {
  [directory autorelease];
  directory = [url retain];
}

/* What the framework leaves in the directory: text and weights under names that nobody reads. */
- (void)saveModelFiles {
  if (!directory) {
    NSString *path = [NSTemporaryDirectory() stringByAppendingPathComponent:identifier];
    directory = [[NSURL fileURLWithPath:path] retain];
  }
  NSString *path = [directory path];
  [[NSFileManager defaultManager] createDirectoryAtPath:path withIntermediateDirectories:YES attributes:nil error:NULL];
  [[descriptor networkText] writeToFile:[path stringByAppendingPathComponent:@"net.plist"] atomically:NO];
  for (NSDictionary *weight in [[descriptor weights] allValues])
    [[weight objectForKey:@"data"] writeToFile:[path stringByAppendingPathComponent:@"data"] atomically:NO];
  [descriptor release];
  descriptor = nil;
}

- (void)remember {
  NSString *copy = [NSTemporaryDirectory()
      stringByAppendingPathComponent:[NSString stringWithFormat:@"fake-aned-%d-%@", getpid(), identifier]];
  @synchronized([FakeObject class]) {
    if ([compiled_programs() objectForKey:identifier]) return;
    if ([[NSFileManager defaultManager] copyItemAtPath:[directory path] toPath:copy error:NULL])
      [compiled_programs() setObject:copy forKey:identifier];
  }
}
- (BOOL)compiledModelExists {
  return fake_setting("cache") && [compiled_programs() objectForKey:identifier];
}

- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error {
  check_call(qos, options);
  if (!fake_step("compile", error)) return NO;
  if (loaded) fake_misused("a loaded model was compiled");
  if (descriptor) [self saveModelFiles];
  fake_engine_destroy(engine);
  engine = fake_engine_create([directory path], error);
  if (engine && fake_setting("cache")) [self remember];
  return engine != NULL;
}

- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error {
  check_call(qos, options);
  if (!fake_step("load", error)) return NO;
  if (loaded) fake_misused("a loaded model was loaded");
  if (!engine) {
    NSString *kept = [compiled_programs() objectForKey:identifier];
    if (!kept) fake_misused("a model was loaded that was not compiled");
    engine = fake_engine_create(kept ? kept : [directory path], error);
  }
  loaded = engine != NULL;
  return loaded;
}

- (NSDictionary *)modelAttributes {
  if (!fake_step("attributes", NULL)) return nil;
  return loaded && fake_setting("attributes") ? fake_engine_attributes(engine) : @{};
}

- (BOOL)evaluateWithQoS:(unsigned int)qos
                options:(NSDictionary *)options
                request:(_ANERequest *)request
                  error:(NSError **)error {
  check_call(qos, options);
  if (!loaded) fake_misused("a model was evaluated that is not loaded");
  if (!fake_step("evaluate", error) || !loaded) return NO;
  if (fake_setting("stall_ms")) usleep((useconds_t)fake_setting("stall_ms") * 1000);
  return fake_engine_run(engine, [request inputArray], [request outputArray], error);
}

- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError **)error {
  check_call(qos, @{});
  if (!loaded) fake_misused("a model was unloaded that is not loaded");
  loaded = NO;
  fake_engine_destroy(engine);
  engine = NULL;
  return fake_step("unload", error);
}
@end

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
  if (weights_buffer || perf_stats || [procedure_index intValue] != 0)
    fake_misused("a request with more than surfaces");
  if (!counts_up(input_indices, [inputs count]) || !counts_up(output_indices, [outputs count]))
    fake_misused("a request whose indices do not count up");
  if (!fake_step("request", NULL)) return nil;
  _ANERequest *request = [[[[self alloc] init] autorelease] leaked];
  request->inputs = [inputs copy];
  request->outputs = [outputs copy];
  return request;
}
- (void)dealloc {
  [inputs release];
  [outputs release];
  [super dealloc];
}
- (BOOL)validate {
  return !fake_setting("invalid_request") && [inputs count] > 0 && [outputs count] > 0;
}
- (NSArray *)inputArray {
  return inputs;
}
- (NSArray *)outputArray {
  return outputs;
}
@end

@interface _ANEDeviceInfo : FakeObject
@end

@implementation _ANEDeviceInfo
+ (BOOL)hasANE {
  (void)fake_step("device_info", NULL);
  return fake_setting("has_ane") != 0;
}
+ (BOOL)isVirtualMachine {
  return fake_setting("virtual_machine") != 0;
}
+ (NSString *)aneSubType {
  return @"h16";
}
+ (NSString *)aneArchitectureType {
  return @"h16g";
}
+ (NSString *)productName {
  return @"fake";
}
+ (NSString *)buildVersion {
  return @"0A0";
}
+ (unsigned int)numANEs {
  return 1;
}
+ (unsigned int)numANECores {
  return 16;
}
@end
