#include "engine/weights/byte_reader.h"

#include "absl/strings/escaping.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::Status FormatError(std::string_view field, uint64_t offset, std::string_view what) {
  return absl::FailedPreconditionError(std::string(field) + " at byte " + std::to_string(offset) + ": " +
                                       std::string(what));
}

std::string Quoted(std::string_view name) {
  constexpr size_t kShown = 80;
  const std::string escaped = absl::CHexEscape(std::string(name.substr(0, kShown)));
  return '"' + escaped + (name.size() > kShown ? "...\"" : "\"");
}

absl::Status ByteReader::Skip(std::string_view field, uint64_t count, absl::Span<const std::byte>* skipped) {
  if (count > remaining()) {
    return FormatError(
        field, offset(),
        "needs " + std::to_string(count) + " bytes, the file has " + std::to_string(remaining()) + " left");
  }
  *skipped = bytes_.subspan(position_, count);
  position_ += count;
  return absl::OkStatus();
}

absl::Status ByteReader::ReadString(std::string_view field, uint64_t max_bytes, std::string_view* value) {
  const uint64_t start = offset();
  uint64_t length = 0;
  NIBBLE_RETURN_IF_ERROR(Read(field, &length));
  if (length > max_bytes) {
    return FormatError(field, start,
                       "length " + std::to_string(length) + " is above the limit of " + std::to_string(max_bytes));
  }
  absl::Span<const std::byte> bytes;
  NIBBLE_RETURN_IF_ERROR(Skip(field, length, &bytes));
  *value = std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return absl::OkStatus();
}

}  // namespace nibble::engine
