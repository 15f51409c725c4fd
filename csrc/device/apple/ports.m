// What the loaded model says of its ports, against what the program's text says. Only compared, never needed: models
// that say nothing are bound by the rule of sorted names and 64-byte rows.
#include <stdbool.h>
#include <string.h>

#import "apple.h"

static NSArray *live_list(NSDictionary *attributes, NSString *key) {
  NSArray *networks = [attributes objectForKey:@"NetworkStatusList"];
  if (![networks isKindOfClass:[NSArray class]] || [networks count] == 0) return nil;
  NSDictionary *network = [networks objectAtIndex:0];
  if (![network isKindOfClass:[NSDictionary class]]) return nil;
  NSArray *list = [network objectForKey:key];
  return [list isKindOfClass:[NSArray class]] ? list : nil;
}

/* -1 when the model does not say. */
static int64_t number(NSDictionary *live, NSString *key) {
  NSNumber *value = [live objectForKey:key];
  return [value isKindOfClass:[NSNumber class]] ? [value longLongValue] : -1;
}

static ane_status compare_number(const char *name, const char *what, int64_t told, size_t ours, ane_error *error) {
  if (told < 0 || (uint64_t)told == ours) return ANE_OK;
  return ane_fail(error, ANE_COMPILE_FAILED, "port '%s': the loaded model says %s %lld, the 64-byte rule gives %zu",
                  name, what, (long long)told, ours);
}

/* Is `symbol` this name? The compiler may add to it, after an '@'. */
static bool names_port(const char *symbol, const ane_port *port) {
  size_t length = strcspn(symbol, "@");
  return strlen(port->name) == length && strncmp(symbol, port->name, length) == 0;
}

/* Refused is only what surely binds the wrong surface: a declared name at another position. How symbols of programs
 * made from text are spelt on hardware is not known, so a name that the text does not have tells nothing. */
static ane_status compare_name(NSString *symbol, size_t index, const ane_port *ports, size_t count, ane_error *error) {
  if (![symbol isKindOfClass:[NSString class]]) return ANE_OK;
  for (size_t i = 0; i < count; i++)
    if (i != index && names_port(ane_text(symbol), &ports[i]))
      return ane_fail(error, ANE_COMPILE_FAILED,
                      "port %zu is '%.128s' in the loaded model and '%s' in sorted order of the text's names", index,
                      ane_text(symbol), ports[index].name);
  return ANE_OK;
}

static ane_status compare_port(NSDictionary *live, size_t index, const ane_port *ports, size_t count,
                               ane_error *error) {
  if (![live isKindOfClass:[NSDictionary class]]) return ANE_OK;
  const ane_port *port = &ports[index];
  if (compare_name([live objectForKey:@"Symbol"], index, ports, count, error) != ANE_OK) return ANE_COMPILE_FAILED;
  if (port->rank != 4) return ANE_OK; /* how other ranks lie on the engine's five axes is not known */
  ane_status status = compare_number(port->name, "RowStride", number(live, @"RowStride"), port->row_stride, error);
  if (status == ANE_OK)
    status = compare_number(port->name, "PlaneStride", number(live, @"PlaneStride"), port->plane_stride, error);
  if (status == ANE_OK)
    status = compare_number(port->name, "BatchStride", number(live, @"BatchStride"),
                            port->bytes / (size_t)port->shape[0], error);
  return status;
}

static ane_status compare_side(NSArray *list, const char *side, const ane_port *ports, size_t count, ane_error *error) {
  if ([list count] != count)
    return ane_fail(error, ANE_COMPILE_FAILED, "the loaded model has %zu %s, the text declares %zu",
                    (size_t)[list count], side, count);
  for (size_t i = 0; i < count; i++) {
    ane_status status = compare_port([list objectAtIndex:i], i, ports, count, error);
    if (status != ANE_OK) return status;
  }
  return ANE_OK;
}

ane_status ane_ports_verify(id<ANEModel> model, const ane_signature *signature, bool *told, ane_error *error) {
  *told = false;
  @try {
    if (![model respondsToSelector:@selector(modelAttributes)]) return ANE_OK;
    NSDictionary *attributes = [model modelAttributes];
    if (![attributes isKindOfClass:[NSDictionary class]]) return ANE_OK;
    NSArray *inputs = live_list(attributes, @"LiveInputList"), *outputs = live_list(attributes, @"LiveOutputList");
    if (!inputs || !outputs) return ANE_OK;
    *told = true;
    ane_status status = compare_side(inputs, "inputs", signature->inputs, signature->input_count, error);
    if (status != ANE_OK) return status;
    return compare_side(outputs, "outputs", signature->outputs, signature->output_count, error);
  } @catch (id exception) {
    return ane_fail_exception(error, ANE_COMPILE_FAILED, "modelAttributes", exception);
  }
}
