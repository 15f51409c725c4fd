// The elements of a blob file: packed, fp16 or plain.
#ifndef ANETRAIN_EMULATOR_PAYLOAD_H
#define ANETRAIN_EMULATOR_PAYLOAD_H

#include "types.h"

namespace ane {

uint64_t payload_bytes(DType dtype, uint64_t count);

// In the form of a Constant of `type`, whose elements are those of the payload, or fp32 where these are fp16.
std::vector<uint8_t> unpacked(const Payload &payload, const Type &type);
// fp16 or fp32 elements, straight from the file.
void floats_from_payload(const Payload &payload, float *to, size_t count);

bool has_non_finite(const Payload &payload);  // false where its elements always are finite

}  // namespace ane
#endif
