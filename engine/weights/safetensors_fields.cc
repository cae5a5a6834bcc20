#include "engine/weights/safetensors_fields.h"

#include "absl/strings/str_cat.h"
#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::Status MetadataError(const std::string& key, const std::string& what) {
  return FormatError("metadata " + Quoted(key), kSafetensorsHeaderOffset, what);
}

absl::Status TensorError(const SafetensorsTensor& tensor, const std::string& what) {
  return FormatError("tensor " + Quoted(tensor.name), tensor.header_offset, what);
}

absl::StatusOr<std::string> MetadataText(const SafetensorsFile& file, const std::string& key, uint64_t least_bytes,
                                         uint64_t most_bytes) {
  const std::string* const text = file.FindMetadata(key);
  if (text == nullptr) return MetadataError(key, "is missing");
  if (text->size() >= least_bytes && text->size() <= most_bytes) return *text;
  return MetadataError(key, absl::StrCat("is not ", least_bytes, " to ", most_bytes, " bytes long"));
}

absl::Status CheckMetadata(const SafetensorsFile& file, const std::string& key, const std::string& wanted) {
  const std::string* const text = file.FindMetadata(key);
  if (text != nullptr && *text == wanted) return absl::OkStatus();
  return MetadataError(key, (text == nullptr ? "is missing" : "is " + Quoted(*text)) + ", not " + Quoted(wanted));
}

absl::StatusOr<std::string> Sha256Of(const SafetensorsFile& file, const std::string& key) {
  constexpr size_t kDigits = 64;
  NIBBLE_ASSIGN_OR_RETURN(std::string text, MetadataText(file, key, 1, kDigits));
  if (text.size() == kDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos) return text;
  return MetadataError(key, "is not 64 lower-case hexadecimal digits");
}

}  // namespace nibble::engine
