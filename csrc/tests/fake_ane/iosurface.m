// IOSurface, as far as a flat byte buffer needs it.
#include <stdlib.h>

#import "fake.h"

#define KEY(name) const CFStringRef name = (CFStringRef) @ #name
KEY(kIOSurfaceWidth);
KEY(kIOSurfaceHeight);
KEY(kIOSurfaceBytesPerElement);
KEY(kIOSurfaceBytesPerRow);
KEY(kIOSurfaceAllocSize);
KEY(kIOSurfacePixelFormat);

@interface FakeIOSurface : FakeObject {
 @public
  void *base;
  size_t bytes;
  uint32_t seed;
  int readers, writers;
}
@end

@implementation FakeIOSurface
+ (fake_kind)kind {
  return FAKE_SURFACE;
}
- (void)dealloc {
  if (readers || writers) fake_misused("a surface was released while it was locked");
  free(base);
  [super dealloc];
}
@end

static FakeIOSurface *fake(IOSurfaceRef surface) { return (FakeIOSurface *)(void *)surface; }

/* All six keys, and the values that every known program gives. */
static BOOL flat_buffer(NSDictionary *properties, size_t bytes) {
  NSDictionary *wanted = @{
    (id)kIOSurfaceWidth : @(bytes),
    (id)kIOSurfaceHeight : @1,
    (id)kIOSurfaceBytesPerElement : @1,
    (id)kIOSurfaceBytesPerRow : @(bytes),
    (id)kIOSurfaceAllocSize : @(bytes),
    (id)kIOSurfacePixelFormat : @0,
  };
  return [properties isEqualToDictionary:wanted];
}

IOSurfaceRef IOSurfaceCreate(CFDictionaryRef given) {
  NSDictionary *properties = (NSDictionary *)(void *)given;
  size_t bytes = [[properties objectForKey:(id)kIOSurfaceAllocSize] unsignedLongLongValue];
  if (!flat_buffer(properties, bytes)) fake_misused("IOSurfaceCreate without the six properties of a flat buffer");
  if (!fake_step("surface", NULL) || bytes == 0) return NULL;
  FakeIOSurface *surface = [[FakeIOSurface alloc] init];
  surface->bytes = bytes;
  surface->base = aligned_alloc(16384, (bytes + 16383) / 16384 * 16384);
  if (surface->base) return (IOSurfaceRef)(void *)surface;
  [surface release];
  return NULL;
}

void CFRelease(CFTypeRef object) { [(id)(void *)object release]; }
size_t IOSurfaceGetAllocSize(IOSurfaceRef surface) { return fake(surface)->bytes; }
uint32_t IOSurfaceGetSeed(IOSurfaceRef surface) { return fake(surface)->seed; }
void *IOSurfaceGetBaseAddress(IOSurfaceRef surface) {
  if (!fake(surface)->readers && !fake(surface)->writers) fake_misused("IOSurfaceGetBaseAddress without a lock");
  return fake(surface)->base;
}

static int *counter(IOSurfaceRef surface, IOSurfaceLockOptions options) {
  return options & kIOSurfaceLockReadOnly ? &fake(surface)->readers : &fake(surface)->writers;
}

kern_return_t IOSurfaceLock(IOSurfaceRef surface, IOSurfaceLockOptions options, uint32_t *seed) {
  if (fake_setting("lock_code")) return (kern_return_t)fake_setting("lock_code");
  __atomic_fetch_add(counter(surface, options), 1, __ATOMIC_SEQ_CST);
  if (seed) *seed = fake(surface)->seed;
  return 0;
}

kern_return_t IOSurfaceUnlock(IOSurfaceRef surface, IOSurfaceLockOptions options, uint32_t *seed) {
  if (__atomic_fetch_sub(counter(surface, options), 1, __ATOMIC_SEQ_CST) <= 0)
    fake_misused("IOSurfaceUnlock does not match an IOSurfaceLock");
  if (!(options & kIOSurfaceLockReadOnly)) __atomic_fetch_add(&fake(surface)->seed, 1, __ATOMIC_SEQ_CST);
  if (seed) *seed = fake(surface)->seed;
  return 0;
}

@implementation _ANEIOSurfaceObject
+ (fake_kind)kind {
  return FAKE_SURFACE_OBJECT;
}
+ (id)objectWithIOSurface:(IOSurfaceRef)surface {
  if (!fake_step("surface_object", NULL)) return nil;
  _ANEIOSurfaceObject *object = [[[[self alloc] init] autorelease] leaked];
  object->surface = (IOSurfaceRef)(void *)[fake(surface) retain];
  return object;
}
- (IOSurfaceRef)ioSurface {
  return surface;
}
- (NSData *)bytes {
  return [NSData dataWithBytes:fake(surface)->base length:fake(surface)->bytes];
}
- (void)dealloc {
  CFRelease(surface);
  [super dealloc];
}
@end
