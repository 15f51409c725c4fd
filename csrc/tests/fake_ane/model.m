// The classes that make a program, and the one that describes the machine. Only what is documented of them.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#import "fake.h"

/* What the compiler service keeps: identifiers of programs, and directories that hold copies of their files. These lie
 * in a folder of this process, whose name is no program's: whoever sweeps program directories leaves it alone. */
static NSMutableDictionary *compiled;
static NSString *kept_folder;

static NSMutableDictionary *compiled_programs(void) {
  @synchronized([FakeObject class]) {
    if (!compiled) compiled = [[NSMutableDictionary alloc] init];
    return compiled;
  }
}

void fake_forget_compiled(void) {
  @autoreleasepool {
    @synchronized([FakeObject class]) {
      if (kept_folder) [[NSFileManager defaultManager] removeItemAtPath:kept_folder error:NULL];
      [kept_folder release];
      kept_folder = nil;
      [compiled removeAllObjects];
    }
  }
}

static NSString *folder_for_copies(void) {
  if (!kept_folder) {
    static BOOL is_removed_at_exit;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/fake-aned.XXXXXX", [NSTemporaryDirectory() fileSystemRepresentation]);
    if (!mkdtemp(path)) perror("fake_ane: no folder for compiled programs"), abort();
    kept_folder = [[NSString alloc] initWithUTF8String:path];
    if (!is_removed_at_exit) is_removed_at_exit = atexit(fake_forget_compiled) == 0;
  }
  return kept_folder;
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

void fake_check_call(unsigned int qos, NSDictionary *options) {
  if (qos != fake_setting("qos")) fake_misused("a QoS that was not expected");
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
  [self forgetLoaded];
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
  @synchronized([FakeObject class]) {
    if ([compiled_programs() objectForKey:identifier]) return;
    NSString *copy = [folder_for_copies() stringByAppendingPathComponent:identifier];
    if ([[NSFileManager defaultManager] copyItemAtPath:[directory path] toPath:copy error:NULL])
      [compiled_programs() setObject:copy forKey:identifier];
  }
}
- (BOOL)compiledModelExists {
  return fake_setting("cache") && [compiled_programs() objectForKey:identifier];
}

- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error {
  fake_check_call(qos, options);
  if (!fake_step("compile", error)) return NO;
  if (loaded) fake_misused("a loaded model was compiled");
  if (descriptor) [self saveModelFiles];
  fake_engine_destroy(engine);
  engine = fake_engine_create([directory path], nil, error);
  if (engine && fake_setting("cache")) [self remember];
  return engine != NULL;
}

/* Another identity than one that was compiled is compiled now. */
- (BOOL)compileOnDemand:(NSError **)error {
  NSString *kept = [compiled_programs() objectForKey:identifier];
  if (!kept && !fake_step("demand", error)) return NO;
  if (descriptor) [self saveModelFiles];
  engine = fake_engine_create(kept ? kept : [directory path], nil, error);
  return engine != NULL;
}

- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary *)options error:(NSError **)error {
  fake_check_call(qos, options);
  if (!fake_step("load", error)) return NO;
  if (loaded) fake_misused("a loaded model was loaded");
  if (mask && !fake_setting("mask")) {
    if (error) *error = fake_error(@"com.apple.appleneuralengine", 6, @"Program load failure (0x1)", nil);
    return NO;
  }
  if (!engine && ![self compileOnDemand:error]) return NO;
  loaded = YES;
  model = [[_ANEModel ofModel:self] retain];
  program = [[_ANEProgramForEvaluation ofModel:model] retain];
  return YES;
}

- (void)forgetLoaded {
  [model forgetOwner];
  [model release];
  [program release];
  model = nil;
  program = nil;
}
- (_ANEModel *)model {
  return fake_step("inner_model", NULL) ? model : nil;
}
- (_ANEProgramForEvaluation *)program {
  return fake_step("program", NULL) ? program : nil;
}
- (uint64_t)string_id {
  return [identifier hash];
}
- (void)setPerfStatsMask:(unsigned int)given {
  (void)fake_step("mask", NULL);
  mask = given;
}

- (NSDictionary *)modelAttributes {
  if (!fake_step("attributes", NULL)) return nil;
  return loaded && fake_setting("attributes") ? fake_engine_attributes(engine) : @{};
}

/* A program of one procedure, of which any number will do, unless a test asks for more. */
- (BOOL)hasProcedure:(NSUInteger)index error:(NSError **)error {
  NSUInteger procedures = (NSUInteger)fake_setting("procedures");
  if (procedures == 0 || index < procedures) return YES;
  if (error)
    *error = fake_error(
        @"com.apple.appleneuralengine", 8,
        @"ANEProgramProcessRequestDirect() Failed with status=0x2 : statusType=0x9 : Program Inference error", nil);
  return NO;
}

- (BOOL)runInputs:(NSArray *)inputs outputs:(NSArray *)outputs error:(NSError **)error {
  return fake_engine_run(engine, inputs, outputs, error);
}

/* The program with the buffer's bytes as its weights. */
- (BOOL)run:(_ANERequest *)request withWeights:(_ANEIOSurfaceObject *)buffer error:(NSError **)error {
  fake_engine *other = fake_engine_create([directory path], [buffer bytes], error);
  BOOL done = other && fake_engine_run(other, [request inputArray], [request outputArray], error);
  fake_engine_destroy(other);
  return done;
}

- (BOOL)run:(_ANERequest *)request
       step:(const char *)step
        qos:(unsigned int)qos
    options:(NSDictionary *)options
      error:(NSError **)error {
  fake_check_call(qos, options);
  if (!loaded) fake_misused("a model was evaluated that is not loaded");
  if (!fake_step(step, error) || !loaded || ![self hasProcedure:[request procedure] error:error]) return NO;
  if (fake_setting("stall_ms")) usleep((useconds_t)fake_setting("stall_ms") * 1000);
  BOOL other_weights = [request weightsBuffer] && fake_setting("weights_buffer");
  BOOL done = other_weights ? [self run:request withWeights:[request weightsBuffer] error:error]
                            : [self runInputs:[request inputArray] outputs:[request outputArray] error:error];
  if (done) [request wasEvaluated];
  return done;
}

- (BOOL)evaluateWithQoS:(unsigned int)qos
                options:(NSDictionary *)options
                request:(_ANERequest *)request
                  error:(NSError **)error {
  return [self run:request step:"evaluate" qos:qos options:options error:error];
}

/* What was compiled for an identity is what is loaded for it again, whatever became of the files. */
- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError **)error {
  fake_check_call(qos, @{});
  if (!loaded) fake_misused("a model was unloaded that is not loaded");
  loaded = NO;
  [self forgetLoaded];
  if (!fake_setting("frozen")) {
    fake_engine_destroy(engine);
    engine = NULL;
  }
  return fake_step("unload", error);
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
