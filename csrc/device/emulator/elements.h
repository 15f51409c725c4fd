// Arrays of any element type <-> arrays of float, the form in which executors hold every value. Floats hold fp16, bool
// and integers of up to 24 bits exactly; wider integers reach a program only as constants and as what cast makes of a
// float.
#ifndef ANETRAIN_EMULATOR_ELEMENTS_H
#define ANETRAIN_EMULATOR_ELEMENTS_H

#include "types.h"

namespace ane {

void floats_from_elements(DType type, const uint8_t *from, float *to, int64_t count);
// Values are within the range of the type. Throws DeviceError for a type no surface has.
void elements_from_floats(DType type, const float *from, uint8_t *to, int64_t count);
std::vector<float> floats_of(const Constant &constant);

}  // namespace ane
#endif
