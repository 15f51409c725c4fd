// Fuzzer: any bytes as a weight file -> a DeviceError or a constant of the size that was asked for. The first four
// bytes choose the type, the length, the offset and the strictness.
#include <cstdint>
#include <cstdlib>

#include "device/emulator/blob.h"
#include "device/emulator/errors.h"

using namespace ane;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  constexpr size_t kChoices = 4;
  if (size < kChoices) return 0;
  const Type type{static_cast<DType>(data[0] % (static_cast<int>(DType::String) + 1)), {1, data[1] + 1}};
  const uint64_t offset = data[2] < 128 ? uint64_t{data[2]} * 64 : uint64_t{0} - data[2];
  FrontendOptions options;
  options.strict_blobs = data[3] & 1;
  options.fp32 = data[3] & 2;
  const BlobFiles files{{"w", {data + kChoices, size - kChoices}}};
  BlobReader reader(files, options);
  try {
    const ConstantPtr constant = reader.read({"w", offset}, type, {1, 1});
    if (constant->bytes().size() != static_cast<size_t>(constant->count()) * dtype_bytes(type.dtype)) std::abort();
    for (int64_t i = 0; i < constant->count(); i++) (void)constant->number(i);
  } catch (const DeviceError &) {
  }
  return 0;
}
