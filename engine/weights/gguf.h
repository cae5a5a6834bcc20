// GGUF container, versions 2 and 3, little-endian: metadata and a table of tensors over bytes that are already in
// memory (usually a read-only mapping). Knows nothing of what the keys mean; encodings are in encoding.h.
// Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// Everything a parsed file yields is a view into those bytes and was proven: counts by the bytes that are left, sizes
// by checked arithmetic (checked.h), tensors aligned, inside the file and apart from each other. Parsing touches the
// header only, never tensor data. Errors are FAILED_PRECONDITION and name the field and its byte offset on one line.
#ifndef NIBBLE_ENGINE_WEIGHTS_GGUF_H_
#define NIBBLE_ENGINE_WEIGHTS_GGUF_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/weights/encoding.h"

namespace nibble::engine {

// Limits beyond what the bytes of the file prove. A file at the limit is accepted, one past it is refused.
inline constexpr uint64_t kGgufMaxMetadata = 1 << 16;      // entries
inline constexpr uint64_t kGgufMaxTensors = 1 << 16;       // entries
inline constexpr uint64_t kGgufMaxKeyBytes = 256;          // of a metadata key; at least 1
inline constexpr uint64_t kGgufMaxNameBytes = 63;          // of a tensor name; at least 1
inline constexpr uint64_t kGgufMaxStringBytes = 16 << 20;  // of a string value or an element of a string array
inline constexpr uint32_t kGgufMaxDims = 4;                // at least 1, each at least 1
inline constexpr uint64_t kGgufMinAlignment = 8;           // general.alignment: a power of two in this range
inline constexpr uint64_t kGgufMaxAlignment = 64 << 10;
inline constexpr uint64_t kGgufDefaultAlignment = 32;

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// One metadata entry. gguf_value.h turns it into numbers and strings.
struct GgufValue {
  std::string_view key;
  GgufType type = GgufType::kUint8;  // of the value; of the elements where is_array; never kArray
  bool is_array = false;             // arrays of arrays are refused
  uint64_t count = 1;                // elements
  uint64_t offset = 0;               // of the payload in the file, for errors
  absl::Span<const std::byte> payload;
};

struct GgufTensor {
  std::string_view name;
  const EncodingTraits* traits = nullptr;
  std::vector<int64_t> shape;  // outermost first, as in Tensor; the file has it the other way round
  uint64_t entry_offset = 0;   // of the table entry in the file, for errors
  uint64_t data_offset = 0;    // in the file
  absl::Span<const std::byte> data;
};

class GgufFile {
 public:
  // `bytes` must outlive the result and everything taken from it.
  static absl::StatusOr<GgufFile> Parse(absl::Span<const std::byte> bytes);

  // The same metadata over other tensors, which another container proved as Parse would. FAILED_PRECONDITION for a
  // duplicate name.
  absl::StatusOr<GgufFile> WithTensors(std::vector<GgufTensor> tensors) const;

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // In file order.
  absl::Span<const GgufValue> metadata() const { return metadata_; }
  absl::Span<const GgufTensor> tensors() const { return tensors_; }
  // nullptr if there is no such key or tensor.
  const GgufValue* Find(std::string_view key) const;
  const GgufTensor* FindTensor(std::string_view name) const;
  // Where the two tables start: the offset named in errors about what a table lacks.
  static constexpr uint64_t metadata_offset() { return 24; }
  uint64_t tensor_table_offset() const { return tensor_table_offset_; }

 private:
  friend class GgufParser;
  absl::Status IndexTensors();

  uint32_t version_ = 0;
  uint64_t alignment_ = kGgufDefaultAlignment;
  uint64_t size_bytes_ = 0;
  std::vector<GgufValue> metadata_;
  std::vector<uint32_t> by_key_;  // indices of metadata_, sorted by key
  uint64_t tensor_table_offset_ = 0;
  std::vector<GgufTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices of tensors_, sorted by name
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_GGUF_H_
