// Reads little-endian fields of an untrusted file from memory, in order. Nothing is read past the end and nothing is
// allocated; an error names the field and its byte offset on one line.
#ifndef NIBBLE_ENGINE_WEIGHTS_BYTE_READER_H_
#define NIBBLE_ENGINE_WEIGHTS_BYTE_READER_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace nibble::engine {

static_assert(std::endian::native == std::endian::little, "files are little-endian and read in place");

// FAILED_PRECONDITION "<field> at byte <offset>: <what>".
absl::Status FormatError(std::string_view field, uint64_t offset, std::string_view what);

// A name taken from a file, fit for an error message: in quotes, cut at 80 bytes, everything unprintable escaped.
std::string Quoted(std::string_view name);

class ByteReader {
 public:
  // `bytes` stays with the caller. `base` is the offset of bytes[0] in the file, for errors.
  explicit ByteReader(absl::Span<const std::byte> bytes, uint64_t base = 0) : bytes_(bytes), base_(base) {}

  uint64_t offset() const { return base_ + position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  // Each fails, and reads nothing, if the file ends before the field does.
  absl::Status Skip(std::string_view field, uint64_t count, absl::Span<const std::byte>* skipped);
  template <typename T>
  absl::Status Read(std::string_view field, T* value) {
    absl::Span<const std::byte> bytes;
    absl::Status status = Skip(field, sizeof(T), &bytes);
    if (status.ok()) std::memcpy(value, bytes.data(), sizeof(T));
    return status;
  }
  // A 64-bit length, then as many bytes. Fails also if the length is above `max_bytes`.
  absl::Status ReadString(std::string_view field, uint64_t max_bytes, std::string_view* value);

 private:
  absl::Span<const std::byte> bytes_;
  uint64_t base_;
  uint64_t position_ = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_BYTE_READER_H_
