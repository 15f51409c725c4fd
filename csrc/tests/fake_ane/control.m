// What a test told the fake framework, and what it counted.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#import "fake.h"

static struct setting {
  const char *name;
  int64_t value, standard;
} settings[] = {{"cache", 0, 0},
                {"attributes", 1, 1},
                {"reverse_order", 0, 0},
                {"row_stride_extra", 0, 0},
                {"symbol_suffix", 0, 0},
                {"own_symbols", 0, 0},
                {"extra_port", 0, 0},
                {"refuse_no_weights", 0, 0},
                {"invalid_request", 0, 0},
                {"stall_ms", 0, 0},
                {"extra_retain", 0, 0},
                {"throw_string", 0, 0},
                {"lock_code", 0, 0},
                {"has_ane", 1, 1},
                {"virtual_machine", 0, 0},
                {"executor", 0, 0},
                {"qos", 21, 21},
                {"probing", 0, 0},
                {"frozen", 1, 1},
                {"procedures", 0, 0},
                {"weights_buffer", 0, 0},
                {"hardware_ns", 0, 0},
                {"mask", 0, 0},
                {"events", 0, 0},
                {"real_time", 0, 0},
                {"chaining", 0, 0}};
static struct text_setting {
  const char *name;
  char text[256];
  const char *standard;
} texts[] = {{"profile", "exact", "exact"}, {"rules", "", ""}, {"other_encoding", "", ""}};
static struct step {
  const char *name;
  int64_t calls;
  uint64_t failures;
  char how[8], domain[64], text[256];
  int64_t code;
} steps[] = {{.name = "descriptor"},    {.name = "model"},
             {.name = "identifier"},    {.name = "compile"},
             {.name = "load"},          {.name = "demand"},
             {.name = "attributes"},    {.name = "surface_object"},
             {.name = "request"},       {.name = "evaluate"},
             {.name = "unload"},        {.name = "surface"},
             {.name = "device_info"},   {.name = "inner_model"},
             {.name = "program"},       {.name = "mask"},
             {.name = "client"},        {.name = "direct"},
             {.name = "real_time"},     {.name = "process"},
             {.name = "connection"},    {.name = "begin"},
             {.name = "end"},           {.name = "statistics"},
             {.name = "event"},         {.name = "signal_event"},
             {.name = "shared_events"}, {.name = "buffer"},
             {.name = "output_sets"},   {.name = "chaining_request"},
             {.name = "output_set"},    {.name = "inputs_ready"},
             {.name = "prepare"},       {.name = "enqueue"},
             {.name = "buffers_ready"}};
static const char *const live_names[FAKE_KINDS] = {"live_descriptors",     "live_models",   "live_requests",
                                                   "live_surface_objects", "live_surfaces", "live_others"};
static int64_t live[FAKE_KINDS], misuses;
static char latest_misuse[256];
static char hidden[8][256];
static size_t hidden_count;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define COUNT(array) (sizeof array / sizeof array[0])

/* The element of a table with that name; a test that asks for another one is wrong. */
#define FIND(table, wanted)                                                          \
  ({                                                                                 \
    size_t at = 0;                                                                   \
    while (at < COUNT(table) && strcmp(table[at].name, wanted) != 0) at++;           \
    if (at == COUNT(table)) fprintf(stderr, "fake_ane: no '%s'\n", wanted), abort(); \
    &table[at];                                                                      \
  })

static void forget_leaked(void);

void fake_ane_reset(void) {
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; i < COUNT(settings); i++) settings[i].value = settings[i].standard;
  for (size_t i = 0; i < COUNT(texts); i++) strcpy(texts[i].text, texts[i].standard);
  for (size_t i = 0; i < COUNT(steps); i++) steps[i].calls = 0, steps[i].failures = 0;
  misuses = 0;
  latest_misuse[0] = 0;
  hidden_count = 0;
  pthread_mutex_unlock(&mutex);
  fake_forget_compiled();
  fake_forget_chain();
  forget_leaked();
}

void fake_ane_set(const char *setting, int64_t value) { FIND(settings, setting)->value = value; }
int64_t fake_setting(const char *name) { return FIND(settings, name)->value; }

void fake_ane_set_text(const char *setting, const char *text) {
  struct text_setting *found = FIND(texts, setting);
  snprintf(found->text, sizeof found->text, "%s", text);
}
const char *fake_setting_text(const char *name) { return FIND(texts, name)->text; }

void fake_ane_fail(const char *name, const char *how, const char *domain, int64_t code, const char *text,
                   uint64_t times) {
  struct step *step = FIND(steps, name);
  pthread_mutex_lock(&mutex);
  snprintf(step->how, sizeof step->how, "%s", how);
  snprintf(step->domain, sizeof step->domain, "%s", domain);
  snprintf(step->text, sizeof step->text, "%s", text);
  step->code = code;
  step->failures = times;
  pthread_mutex_unlock(&mutex);
}

NSError *fake_error(NSString *domain, NSInteger code, NSString *text, NSString *reason) {
  NSMutableDictionary *info = [NSMutableDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey];
  if ([reason length] > 0) [info setObject:reason forKey:NSLocalizedFailureReasonErrorKey];
  return [NSError errorWithDomain:domain code:code userInfo:info];
}

BOOL fake_step(const char *name, NSError **error) {
  struct step *step = FIND(steps, name);
  pthread_mutex_lock(&mutex);
  step->calls++;
  BOOL fails = step->failures > 0;
  if (fails) step->failures--;
  pthread_mutex_unlock(&mutex);
  if (!fails) return YES;
  NSString *domain = [NSString stringWithUTF8String:step->domain], *text = [NSString stringWithUTF8String:step->text];
  if (strcmp(step->how, "throw") == 0 && fake_setting("throw_string")) @throw text;
  if (strcmp(step->how, "throw") == 0) [NSException raise:domain format:@"%@", text];
  if (strcmp(step->how, "error") == 0 && error) *error = fake_error(domain, step->code, text, nil);
  return NO;
}

void fake_ane_hide(const char *name) {
  if (hidden_count == COUNT(hidden)) abort();
  snprintf(hidden[hidden_count++], sizeof hidden[0], "%s", name);
}

BOOL fake_hidden(NSString *name) {
  for (size_t i = 0; i < hidden_count; i++)
    if (strcmp(hidden[i], [name UTF8String]) == 0) return YES;
  return NO;
}

void fake_misused(const char *what) {
  pthread_mutex_lock(&mutex);
  misuses++;
  snprintf(latest_misuse, sizeof latest_misuse, "%s", what);
  pthread_mutex_unlock(&mutex);
}
const char *fake_ane_misuse(void) { return latest_misuse; }

void fake_count_live(fake_kind kind, int change) { __atomic_fetch_add(&live[kind], change, __ATOMIC_SEQ_CST); }

int64_t fake_ane_count(const char *what) {
  if (strcmp(what, "misuses") == 0) return misuses;
  int64_t sum = 0;
  for (int kind = 0; kind < FAKE_KINDS; kind++) {
    if (strcmp(what, live_names[kind]) == 0) return live[kind];
    sum += live[kind];
  }
  return strcmp(what, "live") == 0 ? sum : FIND(steps, what)->calls;
}

static NSMutableArray *leaked_objects(void) {
  static NSMutableArray *objects;
  if (!objects) objects = [[NSMutableArray alloc] init];
  return objects;
}

static void forget_leaked(void) {
  @autoreleasepool {
    [leaked_objects() removeAllObjects];
  }
}

@implementation FakeObject
+ (fake_kind)kind {
  abort(); /* every class says its own */
}
- (id)init {
  if ((self = [super init])) fake_count_live([[self class] kind], 1);
  return self;
}
- (void)dealloc {
  fake_count_live([[self class] kind], -1);
  [super dealloc];
}
- (id)leaked {
  @synchronized([FakeObject class]) {
    if (fake_setting("extra_retain")) [leaked_objects() addObject:self];
  }
  return self;
}
+ (BOOL)respondsToSelector:(SEL)method {
  NSString *name = [NSString stringWithFormat:@"+[%@ %@]", NSStringFromClass(self), NSStringFromSelector(method)];
  return !fake_hidden(name) && [super respondsToSelector:method];
}
+ (BOOL)instancesRespondToSelector:(SEL)method {
  NSString *name = [NSString stringWithFormat:@"-[%@ %@]", NSStringFromClass(self), NSStringFromSelector(method)];
  return !fake_hidden(name) && [super instancesRespondToSelector:method];
}
- (BOOL)respondsToSelector:(SEL)method {
  NSString *name =
      [NSString stringWithFormat:@"-[%@ %@]", NSStringFromClass([self class]), NSStringFromSelector(method)];
  return !fake_hidden(name) && [super respondsToSelector:method];
}
@end
