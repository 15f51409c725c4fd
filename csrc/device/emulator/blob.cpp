#include "blob.h"

#include <algorithm>
#include <cstring>

#include "../names.h"
#include "errors.h"
#include "lexer.h"
#include "payload.h"
#include "rules.h"

namespace ane {
namespace {

constexpr uint64_t kHeaderBytes = 64;
constexpr uint64_t kRecordBytes = 64;
constexpr uint64_t kAlignment = 64;
constexpr uint32_t kVersion = 2;
constexpr uint32_t kSentinel = 0xDEADBEEF;
constexpr uint32_t kFp16Code = 1;

struct BlobCode {
  uint32_t code;
  const char *name;
  bool readable;
  DType dtype;
};

constexpr BlobCode kCodes[] = {
    {1, "fp16", true, DType::Fp16},        {2, "fp32", true, DType::Fp32},      {3, "uint8", true, DType::UInt8},
    {4, "int8", true, DType::Int8},        {5, "bf16", true, DType::BFloat16},  {6, "int16", true, DType::Int16},
    {7, "uint16", true, DType::UInt16},    {8, "int4", true, DType::Int4},      {9, "uint1", true, DType::UInt1},
    {10, "uint2", true, DType::UInt2},     {11, "uint4", true, DType::UInt4},   {12, "uint3", true, DType::UInt3},
    {13, "uint6", true, DType::UInt6},     {14, "int32", true, DType::Int32},   {15, "uint32", true, DType::UInt32},
    {16, "fp8e4m3fn", false, DType::Fp16}, {17, "fp8e5m2", false, DType::Fp16},
};

struct Record {
  uint32_t sentinel, code;
  uint64_t payload_bytes, payload_offset, padding_bits;
};

template <class T>
T little_endian(const uint8_t *bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); i++) value |= static_cast<T>(static_cast<T>(bytes[i]) << (8 * i));
  return value;
}

bool read_record(const BlobView &file, uint64_t offset, Record *record) {
  if (file.bytes < kRecordBytes || offset > file.bytes - kRecordBytes) return false;
  const uint8_t *at = file.data + offset;
  *record = {little_endian<uint32_t>(at), little_endian<uint32_t>(at + 4), little_endian<uint64_t>(at + 8),
             little_endian<uint64_t>(at + 16), little_endian<uint64_t>(at + 24)};
  return true;
}

// Where one reference stands, for messages: `blob '@model_path/w.bin' at offset 64: ...`
class Place {
 public:
  Place(const BlobReference &reference, SourcePos pos) : reference_(reference), pos_(pos) {}
  [[noreturn]] void invalid(const std::string &problem) const { invalid_program(pos_, subject() + ": " + problem); }
  // What only the strict reading refuses.
  [[noreturn]] void untrue(const std::string &value, const std::string &limit, const std::string &remedy = "") const {
    fail_by(kBlobMetadataRule, {pos_, subject(), value, limit, remedy});
  }

 private:
  std::string subject() const {
    return format("blob %s at offset %llu", quoted(reference_.path).c_str(),
                  static_cast<unsigned long long>(reference_.offset));
  }
  const BlobReference &reference_;
  SourcePos pos_;
};

unsigned long long ull(uint64_t value) { return value; }

// Offsets of all records, by walking from one to the next; refuses a count that is not theirs.
std::vector<uint64_t> walk_records(const BlobView &file, const Place &place) {
  const uint32_t count = little_endian<uint32_t>(file.data);
  std::vector<uint64_t> offsets;
  uint64_t offset = kHeaderBytes;
  Record record;
  while (read_record(file, offset, &record) && record.sentinel == kSentinel) {
    offsets.push_back(offset);
    const uint64_t payload = offset + kRecordBytes;
    if (record.payload_bytes > file.bytes - payload) break;  // reported when that record is read
    offset = (payload + record.payload_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  if (offsets.size() != count) {
    place.untrue(format("the file's header counts %u blob(s)", count),
                 format("%zu record(s), as many as follow it", offsets.size()), "write the true count");
  }
  return offsets;
}

const BlobCode *find_code(uint32_t code) {
  const auto *found =
      std::find_if(std::begin(kCodes), std::end(kCodes), [&](const BlobCode &c) { return c.code == code; });
  return found == std::end(kCodes) ? nullptr : found;
}

// The element type of the payload, checked against what the text declares.
DType stored_dtype(const Record &record, DType declared, const FrontendOptions &options, const Place &place) {
  const BlobCode *code = find_code(record.code);
  if (!code) place.invalid(format("its record has the unknown data type code %u (known: 1 to 17)", record.code));
  if (!code->readable) place.invalid(format("holds %s, which the engine does not compute with", code->name));
  if (code->dtype == declared) return declared;
  if (options.fp32 && declared == DType::Fp32 && code->dtype == DType::Fp16) return DType::Fp16;
  if (!options.strict_blobs && record.code == kFp16Code && declared == DType::Int8) return DType::Int8;
  place.invalid(format("holds %s (code %u), but the text declares %s", code->name, code->code, dtype_name(declared)));
}

// What a record says of its data, against the type that is read.
void check_record(const Record &record, uint64_t offset, const Type &stored, const Place &place) {
  const auto count = static_cast<uint64_t>(element_count(stored.shape));
  const uint64_t expected_bytes = payload_bytes(stored.dtype, count);
  const uint64_t spare_bits = expected_bytes * 8 - count * dtype_bits(stored.dtype);
  if (record.payload_bytes != expected_bytes) {
    place.untrue(format("its record says %llu bytes", ull(record.payload_bytes)),
                 format("%llu, for %s", ull(expected_bytes), type_text(stored).c_str()));
  }
  if (record.payload_offset != offset + kRecordBytes) {
    place.untrue(format("its record puts the data at %llu", ull(record.payload_offset)),
                 format("%llu, right after the record", ull(offset + kRecordBytes)));
  }
  if (record.padding_bits != 0 && record.padding_bits != spare_bits) {  // old writers leave 0
    place.untrue(format("its record says %llu padding bits", ull(record.padding_bits)),
                 format("%llu", ull(spare_bits)));
  }
}

void check_file(const BlobView &file, const Place &place) {
  if (!file.data || file.bytes == 0) place.invalid("the file is empty");
  if (file.bytes < kHeaderBytes + kRecordBytes) {
    place.invalid(format("the file has %zu bytes, too few for its 64-byte header and one 64-byte record", file.bytes));
  }
  const uint32_t version = little_endian<uint32_t>(file.data + 4);
  if (version != kVersion) place.invalid(format("the file's header has version %u, expected 2", version));
}

}  // namespace

void BlobReader::check_is_record(const BlobReference &reference, const BlobView &file, SourcePos pos) {
  const Place place(reference, pos);
  std::vector<uint64_t> &offsets = record_offsets_[reference.path];
  if (!options_.strict_blobs) return;
  if (reference.offset % kAlignment != 0) place.untrue("no multiple of 64", "a record's offset, a multiple of 64");
  if (offsets.empty()) offsets = walk_records(file, place);
  if (!std::binary_search(offsets.begin(), offsets.end(), reference.offset)) {
    place.untrue("no record of the file stands there",
                 "the offset of a 64-byte metadata record (the first is at 64), not of the data");
  }
}

std::vector<std::string> BlobReader::unread_paths() const {
  std::vector<std::string> paths;
  for (const auto &[path, file] : files_)
    if (!record_offsets_.count(path)) paths.push_back(path);
  return paths;
}

ConstantPtr BlobReader::read(const BlobReference &reference, const Type &type, SourcePos pos) {
  ConstantPtr &constant = read_[{reference.path, reference.offset, type.dtype, type.shape}];
  if (!constant) {
    const Payload payload = options_.payloads ? next_payload(type) : find(reference, type, pos);
    constant = std::make_shared<const Constant>(type, payload, static_cast<int>(constants_.size()));
    constants_.push_back(constant);
    uses_.push_back({reference, pos});
  }
  return constant;
}

Payload BlobReader::next_payload(const Type &type) {
  const uint64_t bytes = payload_bytes(type.dtype, static_cast<uint64_t>(element_count(type.shape)));
  if (bytes > options_.payloads->bytes - payloads_read_)
    throw engine_error(
        kInferenceError, {},
        format("the weights buffer has %zu bytes, too few for the program's constants", options_.payloads->bytes));
  const uint8_t *payload = options_.payloads->data + payloads_read_;
  payloads_read_ += bytes;
  return {payload, bytes, type.dtype};
}

Payload BlobReader::find(const BlobReference &reference, const Type &type, SourcePos pos) {
  const Place place(reference, pos);
  const auto found = files_.find(reference.path);
  if (found == files_.end()) {
    std::vector<std::string> given;
    for (const auto &[path, file] : files_) given.push_back(path);
    place.invalid(format("there is no such blob among the %zu given", files_.size()) +
                  did_you_mean(reference.path, given) + "; pass it with the program under this very path");
  }
  const BlobView &file = found->second;
  check_file(file, place);

  Record record;
  if (!read_record(file, reference.offset, &record)) {
    place.invalid(format("a record there would reach past the end of the file (%zu bytes)", file.bytes));
  }
  if (record.sentinel != kSentinel) {
    place.invalid(
        format("no metadata record there: found 0x%08X, expected 0xDEADBEEF. The offset is that of the record "
               "(the first is at 64), not of the data",
               record.sentinel));
  }
  check_is_record(reference, file, pos);

  const DType stored = stored_dtype(record, type.dtype, options_, place);
  const auto count = static_cast<uint64_t>(element_count(type.shape));
  const uint64_t expected_bytes = payload_bytes(stored, count);
  if (options_.strict_blobs) check_record(record, reference.offset, {stored, type.shape}, place);
  if (expected_bytes > file.bytes || record.payload_offset > file.bytes - expected_bytes) {
    place.invalid(format("%llu bytes at %llu reach past the end of the file (%zu bytes)", ull(expected_bytes),
                         ull(record.payload_offset), file.bytes));
  }
  const Payload payload{file.data + record.payload_offset, expected_bytes, stored};
  if (options_.strict_blobs && has_non_finite(payload)) {
    place.untrue("the data has a NaN or an infinity", "finite weights");
  }
  return payload;
}

}  // namespace ane
