// Surfaces: their life, their locks, their seeds.
#include <memory>

#include "error.h"
#include "objects.h"

namespace ane {

static ane_status lock(ane_surface &surface, bool write, ane_error *error) {
  ane_device &device = *surface.device;
  if (const ane_status status = check_usable(device, error)) return status;
  std::unique_lock gate(device.gate);
  // An evaluation under way is waited for; another lock of the CPU is a mistake that waiting might never end.
  device.gate_changed.wait(
      gate, [&] { return device.poisoned || !(surface.engine_writer || (write && surface.engine_readers)); });
  if (const ane_status status = check_usable(device, error)) return status;
  if (surface.writer) return ane_fail(error, ANE_SURFACE_ERROR, "the surface is already locked for writing");
  if (write && surface.readers)
    return ane_fail(error, ANE_SURFACE_ERROR, "the surface is locked for reading (%u times): unlock it before writing",
                    surface.readers);
  if (!write && surface.invalid)
    return ane_fail(error, ANE_SURFACE_ERROR,
                    "the surface holds no valid data: the evaluation that should have written it failed. Evaluate "
                    "again, or write to it");
  if (const ane_status status = device.backend->surface_lock(surface.handle, write, error)) return status;
  if (write)
    surface.writer = true;
  else
    surface.readers++;
  return ANE_OK;
}

static ane_status unlock(ane_surface &surface, bool write, ane_error *error) {
  ane_device &device = *surface.device;
  if (const ane_status status = check_usable(device, error)) return status;
  std::lock_guard gate(device.gate);
  if (write ? !surface.writer : !surface.readers)
    return ane_fail(error, ANE_SURFACE_ERROR, "the surface is not locked for %s", write ? "writing" : "reading");
  if (const ane_status status = device.backend->surface_unlock(surface.handle, write, error)) return status;
  if (write) {
    surface.writer = false;
    surface.invalid = false;
    surface.seed.fetch_add(1, std::memory_order_release);
  } else {
    surface.readers--;
  }
  return ANE_OK;
}

static ane_status create(ane_device &device, size_t bytes, ane_surface **result, ane_error *error) {
  if (const ane_status status = check_usable(device, error)) return status;
  constexpr size_t kMost_bytes = size_t{1} << 40;
  if (bytes == 0 || bytes > kMost_bytes)
    return ane_fail(error, ANE_BAD_ARGUMENT, "a surface of %zu bytes: it must have 1 to %zu", bytes, kMost_bytes);
  auto surface = std::make_unique<ane_surface>();
  if (const ane_status status = device.backend->surface_create(device.handle, bytes, &surface->handle, error))
    return status;
  surface->device = &device;
  surface->bytes = bytes;
  surface->base = static_cast<uint8_t *>(device.backend->surface_base(surface->handle));
  retain(&device);
  device.live_surfaces++;
  device.surface_bytes += bytes;
  *result = surface.release();
  return ANE_OK;
}

}  // namespace ane

ane_status ane_surface_create(ane_device *device, size_t bytes, ane_surface **surface, ane_error *error) {
  return ane::guarded(
      error,
      [&] {
        if (!device || !surface)
          return ane_fail(error, ANE_BAD_ARGUMENT, "ane_surface_create: `%s` is NULL", device ? "surface" : "device");
        *surface = nullptr;
        return ane::create(*device, bytes, surface, error);
      },
      ane::kCreateSurface);
}

void ane_surface_retain(ane_surface *surface) {
  if (surface) ane::retain(surface);
}

void ane_surface_release(ane_surface *surface) {
  if (!surface || ane::abandoned() || !ane::drop_reference(surface)) return;
  ane_device *device = surface->device;
  device->backend->surface_destroy(surface->handle);
  device->live_surfaces--;
  device->surface_bytes -= surface->bytes;
  delete surface;
  ane_device_release(device);
}

size_t ane_surface_bytes(const ane_surface *surface) { return surface ? surface->bytes : 0; }

uint64_t ane_surface_seed(const ane_surface *surface) {
  return surface ? surface->seed.load(std::memory_order_acquire) : 0;
}

ane_status ane_surface_lock(ane_surface *surface, bool write, void **base, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!surface || !base)
      return ane_fail(error, ANE_BAD_ARGUMENT, "ane_surface_lock: `%s` is NULL", surface ? "base" : "surface");
    *base = nullptr;
    if (const ane_status status = ane::lock(*surface, write, error)) return status;
    *base = surface->base;
    return ANE_OK;
  });
}

ane_status ane_surface_unlock(ane_surface *surface, bool write, ane_error *error) {
  return ane::guarded(error, [&] {
    if (!surface) return ane_fail(error, ANE_BAD_ARGUMENT, "ane_surface_unlock: `surface` is NULL");
    return ane::unlock(*surface, write, error);
  });
}
