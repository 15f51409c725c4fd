// A compiled program: the emulator, driven through the interface of a back end, fed from files and by position.
#include <stdlib.h>
#include <string.h>

#import "fake.h"

struct fake_engine {
  ane_backend_device *device;
  ane_backend_program *program;
  ane_backend_program_info info;
};

static const ane_backend *emulator(void) { return ane_emulator_backend(); }

static NSError *from_emulator(const ane_error *error) {
  return fake_error([NSString stringWithUTF8String:error->domain], (NSInteger)error -> code,
                    [NSString stringWithUTF8String:error->text], [NSString stringWithUTF8String:error->detail]);
}

static void give(NSError **target, const ane_error *error) {
  if (target) *target = from_emulator(error);
}

/* A blob file of one tensor, with other values: they follow two headers of 64 bytes. */
static NSData *with_payload(NSData *file, NSData *payload) {
  enum { HEADERS = 128 };
  NSMutableData *changed = [NSMutableData dataWithData:file];
  NSUInteger room = [file length] > HEADERS ? [file length] - HEADERS : 0;
  NSUInteger length = [payload length] < room ? [payload length] : room;
  [changed replaceBytesInRange:NSMakeRange(HEADERS, length) withBytes:[payload bytes]];
  return changed;
}

/* Every file below the directory is a weight, but for those with names of their own. The dictionary keeps the bytes. */
static NSDictionary *weight_files(NSString *directory, NSData *instead) {
  NSSet *others = [NSSet setWithObjects:@"model.mil", @"net.plist", @"data", nil];
  NSMutableDictionary *files = [NSMutableDictionary dictionary];
  NSFileManager *manager = [NSFileManager defaultManager];
  for (NSString *relative in [manager subpathsAtPath:directory]) {
    NSString *path = [directory stringByAppendingPathComponent:relative];
    BOOL is_folder = NO;
    if ([others containsObject:relative] || [relative hasPrefix:@"."]) continue;
    if (![manager fileExistsAtPath:path isDirectory:&is_folder] || is_folder) continue;
    NSData *data = [NSData dataWithContentsOfFile:path];
    if (data && instead) data = with_payload(data, instead);
    if (data) [files setObject:data forKey:[@"@model_path/" stringByAppendingString:relative]];
  }
  return files;
}

static ane_status allow(void *context, ane_error *error) {
  (void)context, (void)error;
  return ANE_OK;
}

static ane_status start(fake_engine *engine, NSData *text, NSDictionary *files, ane_error *error) {
  ane_options options = ANE_OPTIONS_INIT;
  const char *profile = fake_setting_text("profile"), *rules = fake_setting_text("rules");
  options.profile = profile;
  options.rules = rules;
  options.executor = (ane_executor)fake_setting("executor");
  ane_status status = emulator()->open(&options, &engine->device, error);
  if (status != ANE_OK) return status;
  ane_blob *blobs = calloc([files count] + 1, sizeof *blobs);
  size_t count = 0;
  for (NSString *path in files) {
    NSData *data = [files objectForKey:path];
    blobs[count++] = (ane_blob){[path UTF8String], [data bytes], [data length]};
  }
  status = emulator()->program_create(engine->device, [text bytes], [text length], blobs, count, "", allow, NULL,
                                      &engine->program, &engine->info, error);
  free(blobs);
  return status;
}

fake_engine *fake_engine_create(NSString *directory, NSData *instead, NSError **error) {
  NSData *text = [NSData dataWithContentsOfFile:[directory stringByAppendingPathComponent:@"model.mil"]];
  if (!text) {
    fake_misused("there is no model.mil to compile");
    if (error)
      *error = fake_error(@"com.apple.appleneuralengine.compiler", 1,
                          @"_ANECompiler : ANECCompile() FAILED : err=(InvalidMILProgram)", @"no model.mil");
    return NULL;
  }
  fake_engine *engine = calloc(1, sizeof *engine);
  ane_error failure = {0};
  if (start(engine, text, weight_files(directory, instead), &failure) == ANE_OK) return engine;
  give(error, &failure);
  fake_engine_destroy(engine);
  return NULL;
}

void fake_engine_destroy(fake_engine *engine) {
  if (!engine) return;
  if (engine->program) {
    (void)emulator()->program_unload(engine->program, NULL);
    emulator()->program_destroy(engine->program);
  }
  if (engine->device) emulator()->close(engine->device);
  free(engine);
}

/* ---- what it says of itself ---- */

static NSString *symbol(const ane_port *port) {
  if (fake_setting("own_symbols")) return [NSString stringWithFormat:@"symbol_of_%s", port->name];
  return [NSString stringWithFormat:fake_setting("symbol_suffix") ? @"%s@port" : @"%s", port->name];
}

static NSDictionary *live_port(const ane_port *port) {
  size_t batches = 1, channels = 1, height = 1, width = 1;
  size_t *const axes[] = {&width, &height, &channels, &batches};
  for (int axis = 0; axis < 4 && axis < port->rank; axis++) *axes[axis] = (size_t)port->shape[port->rank - 1 - axis];
  size_t row = port->row_stride + (size_t)fake_setting("row_stride_extra");
  return @{
    @"Symbol" : symbol(port),
    @"Batches" : @(batches),
    @"Channels" : @(channels),
    @"Depth" : @1,
    @"Height" : @(height),
    @"Width" : @(width),
    @"BatchStride" : @(channels * port->plane_stride),
    @"DepthStride" : @(channels * port->plane_stride),
    @"PlaneStride" : @(port->plane_stride),
    @"RowStride" : @(row),
    @"Type" : strcmp(port->dtype, "fp16") == 0 ? @"Float16" : @"Float32",
  };
}

static NSArray *live_list(const ane_port *ports, size_t count, BOOL first_twice) {
  NSMutableArray *list = [NSMutableArray arrayWithCapacity:count];
  for (size_t i = 0; i < count; i++) [list addObject:live_port(&ports[i])];
  if (first_twice) [list addObject:[list objectAtIndex:0]];
  return fake_setting("reverse_order") ? [[list reverseObjectEnumerator] allObjects] : list;
}

NSDictionary *fake_engine_attributes(const fake_engine *engine) {
  const ane_backend_program_info *info = &engine->info;
  return @{
    @"NetworkStatusList" : @[ @{
      @"LiveInputList" : live_list(info->inputs, info->input_count, fake_setting("extra_port") != 0),
      @"LiveOutputList" : live_list(info->outputs, info->output_count, NO),
    } ]
  };
}

/* ---- running ---- */

typedef struct {
  ane_backend_surface *surfaces[255];
  IOSurfaceRef originals[255];
  uint64_t seeds[255];
  size_t count;
} side;

static void *address(IOSurfaceRef surface, IOSurfaceLockOptions options) {
  (void)IOSurfaceLock(surface, options, NULL);
  void *base = IOSurfaceGetBaseAddress(surface);
  (void)IOSurfaceUnlock(surface, options, NULL);
  return base;
}

/* Emulator surfaces of the same size and content as the given ones. */
static ane_status copy_in(const fake_engine *engine, NSArray *objects, side *bound, ane_error *error) {
  static uint64_t seed; /* never the same twice: every evaluation is new to the emulator */
  NSArray *ordered = fake_setting("reverse_order") ? [[objects reverseObjectEnumerator] allObjects] : objects;
  for (_ANEIOSurfaceObject *object in ordered) {
    IOSurfaceRef surface = [object ioSurface];
    size_t bytes = IOSurfaceGetAllocSize(surface), at = bound->count;
    ane_status status = emulator()->surface_create(engine->device, bytes, &bound->surfaces[at], error);
    if (status != ANE_OK) return status;
    memcpy(emulator()->surface_base(bound->surfaces[at]), address(surface, kIOSurfaceLockReadOnly), bytes);
    bound->originals[at] = surface;
    bound->seeds[at] = __atomic_add_fetch(&seed, 1, __ATOMIC_SEQ_CST);
    bound->count++;
  }
  return ANE_OK;
}

static void copy_out(const side *bound) {
  for (size_t i = 0; i < bound->count; i++)
    memcpy(address(bound->originals[i], 0), emulator()->surface_base(bound->surfaces[i]),
           IOSurfaceGetAllocSize(bound->originals[i]));
}

static ane_status run(fake_engine *engine, const side *inputs, const side *outputs, ane_error *error) {
  ane_backend_request *request = NULL;
  ane_status status = emulator()->request_create(engine->program, inputs->surfaces, inputs->count, outputs->surfaces,
                                                 outputs->count, &request, error);
  if (status == ANE_OK) status = emulator()->evaluate(request, inputs->seeds, error);
  if (request) emulator()->request_destroy(request);
  return status;
}

static void destroy_surfaces(side *bound) {
  for (size_t i = 0; i < bound->count; i++) emulator()->surface_destroy(bound->surfaces[i]);
}

BOOL fake_engine_run(fake_engine *engine, NSArray *input_objects, NSArray *output_objects, NSError **error) {
  ane_error failure = {0};
  side *inputs = calloc(1, sizeof *inputs), *outputs = calloc(1, sizeof *outputs);
  ane_status status = copy_in(engine, input_objects, inputs, &failure);
  if (status == ANE_OK) status = copy_in(engine, output_objects, outputs, &failure);
  if (status == ANE_OK) status = run(engine, inputs, outputs, &failure);
  if (status == ANE_OK) {
    copy_out(outputs);
  } else {
    give(error, &failure);
  }
  destroy_surfaces(inputs);
  destroy_surfaces(outputs);
  free(inputs);
  free(outputs);
  return status == ANE_OK;
}
