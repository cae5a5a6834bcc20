// Writes GGUF files in memory, right or wrong: a row of robustness.md builds a right file and breaks one field. Also
// what tests of models use to make tiny seeded ones (tiny_model.h).
#ifndef NIBBLE_TESTS_ENGINE_WEIGHTS_GGUF_BUILDER_H_
#define NIBBLE_TESTS_ENGINE_WEIGHTS_GGUF_BUILDER_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/gguf.h"

namespace nibble::engine {

// The type id of a C++ type in metadata.
template <typename T>
constexpr GgufType GgufTypeOf() {
  if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  if constexpr (std::is_same_v<T, float>) return GgufType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return GgufType::kFloat64;
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::kUint8;
  if constexpr (std::is_same_v<T, int8_t>) return GgufType::kInt8;
  if constexpr (std::is_same_v<T, uint16_t>) return GgufType::kUint16;
  if constexpr (std::is_same_v<T, int16_t>) return GgufType::kInt16;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::kUint32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::kInt32;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::kUint64;
  if constexpr (std::is_same_v<T, int64_t>) return GgufType::kInt64;
  return GgufType::kString;
}

class GgufBuilder {
 public:
  // Header fields: what is not set is what a right file has.
  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  uint64_t alignment = kGgufDefaultAlignment;  // of the layout; writes no key
  // Added to the counts that are written.
  uint64_t tensor_count_error = 0;
  uint64_t metadata_count_error = 0;

  // Metadata: sets, or replaces the value of, `key`. A vector becomes an array, a string a string, a number or bool
  // a scalar of its type.
  template <typename T>
  GgufBuilder& Set(std::string_view key, const T& value) {
    return SetRaw(key, static_cast<uint32_t>(GgufTypeOf<T>()), Encode(value));
  }
  template <typename T>
  GgufBuilder& Set(std::string_view key, const std::vector<T>& values) {
    std::string payload = Encode(static_cast<uint32_t>(GgufTypeOf<T>())) + Encode(uint64_t{values.size()});
    for (const auto& value : values) payload += Encode(static_cast<const T&>(value));
    return SetRaw(key, static_cast<uint32_t>(GgufType::kArray), payload);
  }
  GgufBuilder& Set(std::string_view key, const char* value) { return Set(key, std::string(value)); }
  // Any type id and any bytes after it.
  GgufBuilder& SetRaw(std::string_view key, uint32_t type, std::string payload);
  // Adds an entry even if the key is there already.
  GgufBuilder& Append(std::string_view key, uint32_t type, std::string payload);
  GgufBuilder& Remove(std::string_view key);

  // Tensors: `shape` outermost first, as in Tensor. The file's table and data are in the order of the calls.
  struct TensorEntry {
    std::string name;
    std::vector<uint64_t> dims;  // as written: innermost first
    uint32_t n_dims = 0;
    uint32_t type = 0;
    std::string data;
    int64_t offset_error = 0;  // added to the offset that is written
  };
  GgufBuilder& AddF32(std::string_view name, const std::vector<int64_t>& shape, absl::Span<const float> values);
  GgufBuilder& AddRaw(std::string_view name, const std::vector<int64_t>& shape, uint32_t gguf_type, std::string data);
  // For breaking a field. REQUIRES: the tensor was added.
  TensorEntry& tensor(std::string_view name);
  GgufBuilder& RemoveTensor(std::string_view name);

  std::string Build() const;
  // Bytes before the first tensor's data.
  uint64_t HeaderBytes() const { return Header().size(); }

  // Little-endian, as in the file.
  template <typename T>
  static std::string Encode(const T& value) {
    static_assert(std::is_arithmetic_v<T>);
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bytes;
  }
  static std::string Encode(const std::string& value) { return Encode(uint64_t{value.size()}) + value; }

 private:
  struct Entry {
    std::string key;
    uint32_t type;
    std::string payload;
  };
  std::string Header() const;

  std::vector<Entry> metadata_;
  std::vector<TensorEntry> tensors_;
};

inline absl::Span<const std::byte> AsBytes(const std::string& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_WEIGHTS_GGUF_BUILDER_H_
