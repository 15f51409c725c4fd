// IOSurfaces as flat byte buffers.
#include <stdlib.h>
#include <string.h>

#import "apple.h"

/* The address holds for the life of the surface, but is asked for under a lock. */
static ane_status find_base_and_clear(ane_backend_surface *surface, size_t bytes, ane_error *error) {
  ane_status status = ane_apple_surface_lock(surface, true, error);
  if (status != ANE_OK) return status;
  surface->base = IOSurfaceGetBaseAddress(surface->surface);
  if (surface->base) memset(surface->base, 0, bytes);
  status = ane_apple_surface_unlock(surface, true, error);
  if (status == ANE_OK && !surface->base)
    return ane_fail(error, ANE_SURFACE_ERROR, "an IOSurface of %zu bytes has no address", bytes);
  return status;
}

ane_status ane_apple_surface_create(ane_backend_device *device, size_t bytes, ane_backend_surface **result,
                                    ane_error *error) {
  (void)device;
  ane_backend_surface *surface = calloc(1, sizeof *surface);
  if (!surface) return ane_fail(error, ANE_SURFACE_ERROR, "out of memory for a surface");
  @autoreleasepool {
    NSNumber *size = @(bytes);
    NSDictionary *properties = @{
      (id)kIOSurfaceWidth : size,
      (id)kIOSurfaceHeight : @1,
      (id)kIOSurfaceBytesPerElement : @1,
      (id)kIOSurfaceBytesPerRow : size,
      (id)kIOSurfaceAllocSize : size,
      (id)kIOSurfacePixelFormat : @0,
    };
    surface->surface = ane_hold_created(IOSurfaceCreate((CFDictionaryRef)properties));
  }
  ane_status status = ANE_OK;
  if (!surface->surface) {
    status = ane_fail(error, ANE_SURFACE_ERROR, "IOSurfaceCreate gave no surface of %zu bytes", bytes);
  } else if (IOSurfaceGetAllocSize(surface->surface) < bytes) {
    status = ane_fail(error, ANE_SURFACE_ERROR, "IOSurfaceCreate gave %zu bytes where %zu were asked for",
                      IOSurfaceGetAllocSize(surface->surface), bytes);
  } else {
    status = find_base_and_clear(surface, bytes, error);
  }
  if (status != ANE_OK) {
    ane_apple_surface_destroy(surface);
    return status;
  }
  *result = surface;
  return ANE_OK;
}

void ane_apple_surface_destroy(ane_backend_surface *surface) {
  ane_drop_surface(&surface->surface);
  free(surface);
}

void *ane_apple_surface_base(ane_backend_surface *surface) { return surface->base; }

static IOSurfaceLockOptions lock_options(bool write) { return write ? 0 : kIOSurfaceLockReadOnly; }

ane_status ane_apple_surface_lock(ane_backend_surface *surface, bool write, ane_error *error) {
  int code = IOSurfaceLock(surface->surface, lock_options(write), NULL);
  if (code == 0) return ANE_OK;
  return ane_fail_as(error, ANE_SURFACE_ERROR, "IOSurface", code, "", "IOSurfaceLock for %s failed with 0x%x",
                     write ? "writing" : "reading", (unsigned)code);
}

ane_status ane_apple_surface_unlock(ane_backend_surface *surface, bool write, ane_error *error) {
  int code = IOSurfaceUnlock(surface->surface, lock_options(write), NULL);
  if (code == 0) return ANE_OK;
  return ane_fail_as(error, ANE_SURFACE_ERROR, "IOSurface", code, "", "IOSurfaceUnlock after %s failed with 0x%x",
                     write ? "writing" : "reading", (unsigned)code);
}
