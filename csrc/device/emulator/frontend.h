// MIL text and blobs -> checked Graph.
#ifndef ANETRAIN_EMULATOR_FRONTEND_H
#define ANETRAIN_EMULATOR_FRONTEND_H

#include <map>
#include <string>
#include <vector>

#include "../ane.h"
#include "ir.h"

namespace ane {

struct BlobView {
  const uint8_t *data;
  size_t bytes;
};
using BlobFiles = std::map<std::string, BlobView>;  // MIL path -> whole file
BlobFiles blob_files(const ane_blob *blobs, size_t count);

// Parses, resolves names, folds constants (consts, BLOBFILE, constexpr_*), fills defaults, infers and compares types,
// removes dead nodes. Throws DeviceError with the place and the reason; never crashes on any input.
// `check_blob` options come from the profile (legacy headers): see blob.h.
struct FrontendOptions {
  bool strict_blobs = true;  // all checks of ANE_FACTS 4.6
  // The mode without rounding: fp16 is read as fp32 everywhere in the program (types, literals, casts, ports), and a
  // blob of fp16 or fp32 serves a weight alike. Executors then need no mode of their own: they round where a type is
  // fp16.
  bool fp32 = false;
  // Not null: the data of all BLOBFILE constants stands here, back to back in the order of the text, and no file is
  // read.
  const BlobView *payloads = nullptr;
};
// A program of several functions is refused: a request cannot say which one it is for. Constants of blob files are read
// there when somebody asks for their bytes: see Constant.
Graph compile_text(const char *text, size_t bytes, const BlobFiles &blobs, const FrontendOptions &options = {});
// What a graph reads of blob files, of other files: constants for `graph.blobs`, and the paths that it does not refer
// to. Throws DeviceError as compile_text would.
std::vector<ConstantPtr> read_blobs(const Graph &graph, const BlobFiles &files, const FrontendOptions &options,
                                    std::vector<std::string> *unread_paths);

}  // namespace ane
#endif
