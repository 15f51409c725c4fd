// Bounds on what is read from outside. Generous for any real program; they keep a hostile text or blob from using up
// memory, time or the stack.
#ifndef ANETRAIN_EMULATOR_LIMITS_H
#define ANETRAIN_EMULATOR_LIMITS_H

#include <cstddef>
#include <cstdint>

namespace ane::limits {

constexpr size_t kTextBytes = size_t{256} << 20;
constexpr size_t kIdentifierBytes = 512;
constexpr size_t kNumberBytes = 120;               // one numeric literal
constexpr size_t kStringBytes = 4096;              // one string literal, a path for instance
constexpr size_t kDimensions = 8;                  // of a constant: lookup tables have two more than their weight
constexpr size_t kRank = 5;                        // of a value at run time (ANE_FACTS C13)
constexpr size_t kListElements = size_t{1} << 24;  // written between brackets in the text
constexpr size_t kPorts = 255;                     // inputs or outputs of one function (ANE_FACTS 2.3)
constexpr size_t kPortNameBytes = 127;             // ane_port.name with its terminating zero
constexpr size_t kFindings = 1000;                 // that one check reports
constexpr size_t kStatements = size_t{1} << 20;
constexpr size_t kOperands = 4096;                  // of one operation, `values = (a, b, ...)` included
constexpr int64_t kElements = int64_t{1} << 32;     // of one tensor
constexpr int64_t kFoldedBytes = int64_t{1} << 32;  // of one constant that constexpr_* expands

}  // namespace ane::limits
#endif
