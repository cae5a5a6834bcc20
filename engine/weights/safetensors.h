// The safetensors container: a JSON header and the bytes of tensors, over memory. Knows nothing of what the names mean.
// Source of the format: https://github.com/huggingface/safetensors#format
//
// Everything a parsed file yields was proven: the header is one flat JSON object in UTF-8 without duplicate keys, and
// the tensors fill the rest of the file without a hole, an overlap or a byte too much. Parsing touches the header only.
// Errors are FAILED_PRECONDITION and name the field and its byte offset on one line.
#ifndef NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_H_
#define NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace nibble::engine {

// Limits beyond what the format has. A file at the limit is accepted, one past it is refused.
inline constexpr uint64_t kSafetensorsMinHeaderBytes = 8;  // "{}" and padding
inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 16 << 20;
inline constexpr uint64_t kSafetensorsMaxTensors = 1 << 16;
inline constexpr uint64_t kSafetensorsMaxMetadata = 1 << 16;  // entries
inline constexpr uint64_t kSafetensorsMaxNameBytes = 256;     // of a tensor's name or a metadata key; at least 1
inline constexpr uint64_t kSafetensorsMaxDims = 8;            // 0: a scalar

enum class SafetensorsType {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64
};

struct SafetensorsTypeTraits {
  SafetensorsType type;
  std::string_view name;  // as in the header: "BF16"
  uint64_t bytes;         // of an element
};

const SafetensorsTypeTraits& TraitsOf(SafetensorsType type);
// nullptr for a name that is unknown or not supported.
const SafetensorsTypeTraits* FindSafetensorsType(std::string_view name);

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<int64_t> shape;        // outermost first; a dimension may be 0, and then there are no data
  absl::Span<const std::byte> data;  // little-endian; at any alignment
  uint64_t header_offset = 0;        // where the header speaks of it, for errors
};

using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

class SafetensorsFile {
 public:
  // `bytes` must outlive the data of the result's tensors.
  static absl::StatusOr<SafetensorsFile> Parse(absl::Span<const std::byte> bytes);

  const SafetensorsMetadata& metadata() const { return metadata_; }
  // In the order of their data.
  absl::Span<const SafetensorsTensor> tensors() const { return tensors_; }
  // nullptr if there is no such key or tensor.
  const std::string* FindMetadata(std::string_view key) const;
  const SafetensorsTensor* Find(std::string_view name) const;

 private:
  SafetensorsMetadata metadata_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices of tensors_, sorted by name
};

// A file of these tensors, the same for the same content in any order: larger elements first, which aligns them all,
// then by name. REQUIRES: names and metadata are UTF-8, names are distinct, a tensor has as many data as its type and
// shape say.
std::string SerializeSafetensors(const SafetensorsMetadata& metadata, std::vector<SafetensorsTensor> tensors);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_H_
