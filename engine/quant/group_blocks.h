// Groups of 32 codes as the blocks that files hold, and rounding to them: the other way round from weight_groups.h.
// Layouts: GGUF, as in engine/weights/encoding.cc.
#ifndef NIBBLE_ENGINE_QUANT_GROUP_BLOCKS_H_
#define NIBBLE_ENGINE_QUANT_GROUP_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "engine/quant/weight_groups.h"
#include "engine/weights/encoding.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {

// REQUIRES: the parameters are f16 exactly, or NaN; `block` has the bytes of one block.
inline void WriteQ4_1(const int8_t* codes, float scale, float min, std::byte* block) {
  const uint16_t params[2] = {simd::FloatToHalf(scale), simd::FloatToHalf(min)};
  std::memcpy(block, params, sizeof params);
  for (int i = 0; i < 16; ++i) block[sizeof params + i] = static_cast<std::byte>(codes[i] | codes[i + 16] << 4);
}

inline void WriteQ8_0(const int8_t* codes, float scale, std::byte* block) {
  const uint16_t half = simd::FloatToHalf(scale);
  std::memcpy(block, &half, sizeof half);
  std::memcpy(block + sizeof half, codes, 32);
}

// The encodings that weights are rounded to: kQ4_1, with codes 0 to 15, and kQ8_0 and kH8_0, with codes -127 to 127 and
// a min of 0; for kH8_0 the values are rotated already (rotation.h). RoundGroup is RoundGroupW4 or RoundGroupW8.
inline void RoundGroup(Encoding encoding, absl::Span<const float> values, int8_t* codes, float* scale, float* min) {
  if (encoding == Encoding::kQ4_1) return RoundGroupW4(values, codes, scale, min);
  *min = 0.0f;
  RoundGroupW8(values, codes, scale);
}

inline void WriteGroup(Encoding encoding, const int8_t* codes, float scale, float min, std::byte* block) {
  if (encoding == Encoding::kQ4_1) return WriteQ4_1(codes, scale, min, block);
  WriteQ8_0(codes, scale, block);
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_GROUP_BLOCKS_H_
