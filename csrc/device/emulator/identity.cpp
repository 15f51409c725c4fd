#include "identity.h"

#include <cstring>

namespace ane {

// Two multiplicative hashes side by side, eight bytes at a time.
class Hash {
 public:
  void add(const void *data, size_t bytes) {
    const auto *next = static_cast<const unsigned char *>(data);
    mix(bytes);
    for (; bytes >= 8; next += 8, bytes -= 8) {
      uint64_t word;
      memcpy(&word, next, 8);
      mix(word);
    }
    uint64_t rest = 0;
    memcpy(&rest, next, bytes);
    mix(rest);
  }
  Identity value() const { return state_; }

 private:
  void mix(uint64_t word) {
    constexpr uint64_t kOdd[] = {0x9E3779B97F4A7C15u, 0xC2B2AE3D27D4EB4Fu};
    for (int i = 0; i < 2; i++) {
      state_[i] = (state_[i] ^ word) * kOdd[i];
      state_[i] ^= state_[i] >> 29;
    }
  }
  Identity state_ = {0x243F6A8885A308D3u, 0x13198A2E03707344u};
};

Identity identity_of(const char *mil, size_t mil_bytes, const BlobFiles &files) {
  Hash hash;
  hash.add(mil, mil_bytes);
  for (const auto &[path, file] : files) {
    hash.add(path.data(), path.size());
    hash.add(file.data, file.bytes);
  }
  return hash.value();
}

}  // namespace ane
