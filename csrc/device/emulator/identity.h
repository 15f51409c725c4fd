// What makes two programs the same program: text, and the paths and bytes of the weight files.
#ifndef ANETRAIN_EMULATOR_IDENTITY_H
#define ANETRAIN_EMULATOR_IDENTITY_H

#include <array>
#include <cstdint>

#include "frontend.h"

namespace ane {

// 128 bits; enough to tell programs apart that nobody made to be confused.
using Identity = std::array<uint64_t, 2>;
Identity identity_of(const char *mil, size_t mil_bytes, const BlobFiles &files);

}  // namespace ane
#endif
