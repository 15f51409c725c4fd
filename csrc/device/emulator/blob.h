// Weight files: MILBlob storage version 2 (ANE_FACTS 4.1), read as hostile input.
#ifndef ANETRAIN_EMULATOR_BLOB_H
#define ANETRAIN_EMULATOR_BLOB_H

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "frontend.h"
#include "syntax.h"
#include "types.h"

namespace ane {

class BlobReader {
 public:
  // Strict: every check of ANE_FACTS 4.6, and true counts, alignment and offsets. Not strict: what M4 and M5 are known
  // to tolerate (4.2) passes: a size that is not the tensor's, a payload offset of 0, a count left at 1, records that
  // are not aligned, the fp16 code on int8 data. The tensor's own size is then what is read, and always inside the
  // file.
  BlobReader(const BlobFiles &files, const FrontendOptions &options) : files_(files), options_(options) {}

  // A constant of `type`, checked but not copied: files must live until its bytes were read. `pos` is the place of the
  // BLOBFILE in the text. References to one record share one constant. Throws DeviceError.
  ConstantPtr read(const BlobReference &reference, const Type &type, SourcePos pos);

  int file_count() const { return static_cast<int>(record_offsets_.size()); }  // distinct files read so far
  std::vector<std::string> unread_paths() const;                               // of files given and not read so far
  const std::vector<ConstantPtr> &constants() const { return constants_; }     // read so far, each once
  const std::vector<BlobUse> &uses() const { return uses_; }                   // of each of them, the first

 private:
  Payload find(const BlobReference &reference, const Type &type, SourcePos pos);
  Payload next_payload(const Type &type);
  void check_is_record(const BlobReference &reference, const BlobView &file, SourcePos pos);

  const BlobFiles &files_;
  const FrontendOptions &options_;
  size_t payloads_read_ = 0;  // bytes of options_.payloads
  std::map<std::tuple<std::string, uint64_t, DType, Shape>, ConstantPtr> read_;
  std::vector<ConstantPtr> constants_;
  std::vector<BlobUse> uses_;
  std::map<std::string, std::vector<uint64_t>> record_offsets_;  // ascending; of the files read; empty when not strict
};

}  // namespace ane
#endif
