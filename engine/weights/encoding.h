// How weights are written in files: one row per encoding in one table (encoding.cc). A row of a matrix is a whole
// number of blocks. Layouts are GGUF's (ggml-quants, block_* structs), little-endian. kH8_0 is in files of `nibble
// quantize` alone: a block of Q8_0 whose values are those of weights turned by hadamard.h.
#ifndef NIBBLE_ENGINE_WEIGHTS_ENCODING_H_
#define NIBBLE_ENGINE_WEIGHTS_ENCODING_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"

namespace nibble::engine {

enum class Encoding { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K, kH8_0 };

inline constexpr uint32_t kNoGgufType = 0xFFFFFFFF;

struct EncodingTraits {
  Encoding encoding;
  std::string_view name;   // "q4_1"
  uint32_t gguf_type;      // type id in a GGUF file, or kNoGgufType
  int64_t block_elements;  // elements per block
  int64_t block_bytes;     // bytes per block
  // Decodes `out.size()` elements (a multiple of block_elements) to float, exactly as the format defines them.
  void (*decode)(const std::byte* blocks, absl::Span<float> out);
};

const EncodingTraits& TraitsOf(Encoding encoding);
// nullptr for a type that is unknown or not supported.
const EncodingTraits* FindByGgufType(uint32_t gguf_type);
// The whole table, in the order of the enum.
absl::Span<const EncodingTraits> AllEncodings();

// The 6-bit scale and minimum of sub-block `i` (0 to 7) of Q4_K and Q5_K, from the 12 bytes that hold all eight pairs.
struct SubScale {
  int scale;
  int min;
};
SubScale UnpackSubScale(const uint8_t* packed, int i);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_ENCODING_H_
