// The one place where objects of the framework are retained and released, and counted.
#import "apple.h"

static uint64_t held; /* changed atomically */

uint64_t ane_held_objects(void) { return __atomic_load_n(&held, __ATOMIC_SEQ_CST); }

id ane_hold(id object) {
  if (object) __atomic_fetch_add(&held, 1, __ATOMIC_SEQ_CST);
  return [object retain];
}

void ane_drop(id *object) {
  if (!*object) return;
  [*object release];
  *object = nil;
  __atomic_fetch_sub(&held, 1, __ATOMIC_SEQ_CST);
}

IOSurfaceRef ane_hold_created(IOSurfaceRef surface) {
  if (surface) __atomic_fetch_add(&held, 1, __ATOMIC_SEQ_CST);
  return surface;
}

void ane_drop_surface(IOSurfaceRef *surface) {
  if (!*surface) return;
  CFRelease(*surface);
  *surface = NULL;
  __atomic_fetch_sub(&held, 1, __ATOMIC_SEQ_CST);
}
