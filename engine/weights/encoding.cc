#include "engine/weights/encoding.h"

#include <cstring>

#include "engine/weights/hadamard.h"
#include "kvcache/base/check.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

using simd::Bf16ToFloat;
using simd::HalfToFloat;

// Products below are exact in float: an 11-bit scale times at most 7 bits of sub-scale and 6 bits of quant. Only the
// subtraction or addition of a minimum rounds, once, so the order of the factors cannot show.

using Bytes = const uint8_t*;

template <typename T>
T Load(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float LoadHalf(Bytes bytes) { return HalfToFloat(Load<uint16_t>(bytes)); }

void DecodeF32(Bytes block, float* out) { *out = Load<float>(block); }
void DecodeF16(Bytes block, float* out) { *out = LoadHalf(block); }
void DecodeBF16(Bytes block, float* out) { *out = Bf16ToFloat(Load<uint16_t>(block)); }

void DecodeQ8_0(Bytes block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

// Low nibbles are the first half of a block of 32, high nibbles the second.
int Nibble(Bytes quants, int i) { return i < 16 ? quants[i] & 15 : quants[i - 16] >> 4; }
int FifthBit(uint32_t high, int i) { return static_cast<int>((high >> i) & 1) << 4; }

void DecodeQ4_0(Bytes block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Nibble(block + 2, i) - 8);
}

void DecodeQ4_1(Bytes block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Nibble(block + 4, i)) + min;
}

void DecodeQ5_0(Bytes block, float* out) {
  const float scale = LoadHalf(block);
  const uint32_t high = Load<uint32_t>(block + 2);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>((Nibble(block + 6, i) | FifthBit(high, i)) - 16);
}

void DecodeQ5_1(Bytes block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  const uint32_t high = Load<uint32_t>(block + 4);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(Nibble(block + 8, i) | FifthBit(high, i)) + min;
}

// Q4_K and Q5_K: eight sub-blocks of 32; sub-blocks 2i and 2i+1 share 32 bytes of nibbles. `high` holds the fifth bits
// (bit `sub` of byte j), or is null.
void DecodeSuperBlock(Bytes block, Bytes high, Bytes quants, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    const SubScale packed = UnpackSubScale(block + 4, sub);
    const float sub_scale = scale * static_cast<float>(packed.scale);
    const float sub_min = min * static_cast<float>(packed.min);
    for (int j = 0; j < 32; ++j) {
      int quant = (quants[sub / 2 * 32 + j] >> (sub % 2 * 4)) & 15;
      if (high != nullptr) quant |= ((high[j] >> sub) & 1) << 4;
      out[sub * 32 + j] = sub_scale * static_cast<float>(quant) - sub_min;
    }
  }
}

void DecodeQ4_K(Bytes block, float* out) { DecodeSuperBlock(block, nullptr, block + 16, out); }
void DecodeQ5_K(Bytes block, float* out) { DecodeSuperBlock(block, block + 16, block + 48, out); }

// 256 elements: two halves of 128, each four groups of 32. Low nibbles: groups 0 and 1 in the low, 2 and 3 in the high
// nibbles of 64 bytes; the upper two bits of all four in 32 bytes. One int8 scale per 16 elements.
void DecodeQ6_K(Bytes block, float* out) {
  const float scale = LoadHalf(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, group = i / 32 % 4, j = i % 32;
    const int low = (block[half * 64 + group % 2 * 32 + j] >> (group / 2 * 4)) & 15;
    const int high = (block[128 + half * 32 + j] >> (group * 2)) & 3;
    const float sub_scale = scale * static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    out[i] = sub_scale * static_cast<float>((low | (high << 4)) - 32);
  }
}

// H y / 8 of the turned weights y. Sums of codes are integers and exact.
void DecodeH8_0(Bytes block, float* out) {
  const float scale = LoadHalf(block) * kRotatedInputFactor;
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i]));
  Hadamard32(out);
  for (int i = 0; i < 32; ++i) out[i] *= scale;
}

template <void (*kDecodeBlock)(Bytes, float*), int64_t kElements, int64_t kBytes>
void DecodeBlocks(const std::byte* blocks, absl::Span<float> out) {
  const auto* block = reinterpret_cast<Bytes>(blocks);
  for (size_t i = 0; i + kElements <= out.size(); i += kElements, block += kBytes) kDecodeBlock(block, out.data() + i);
}

template <void (*kDecodeBlock)(Bytes, float*), int64_t kElements, int64_t kBytes>
constexpr EncodingTraits Row(Encoding encoding, std::string_view name, uint32_t gguf_type) {
  return {encoding, name, gguf_type, kElements, kBytes, DecodeBlocks<kDecodeBlock, kElements, kBytes>};
}

// In the order of the enum.
constexpr EncodingTraits kEncodings[] = {
    Row<DecodeF32, 1, 4>(Encoding::kF32, "f32", 0),          //
    Row<DecodeF16, 1, 2>(Encoding::kF16, "f16", 1),          //
    Row<DecodeBF16, 1, 2>(Encoding::kBF16, "bf16", 30),      //
    Row<DecodeQ8_0, 32, 34>(Encoding::kQ8_0, "q8_0", 8),     //
    Row<DecodeQ4_0, 32, 18>(Encoding::kQ4_0, "q4_0", 2),     //
    Row<DecodeQ4_1, 32, 20>(Encoding::kQ4_1, "q4_1", 3),     //
    Row<DecodeQ5_0, 32, 22>(Encoding::kQ5_0, "q5_0", 6),     //
    Row<DecodeQ5_1, 32, 24>(Encoding::kQ5_1, "q5_1", 7),     //
    Row<DecodeQ4_K, 256, 144>(Encoding::kQ4_K, "q4_k", 12),  //
    Row<DecodeQ5_K, 256, 176>(Encoding::kQ5_K, "q5_k", 13),  //
    Row<DecodeQ6_K, 256, 210>(Encoding::kQ6_K, "q6_k", 14),  //
    Row<DecodeH8_0, 32, 34>(Encoding::kH8_0, "h8_0", kNoGgufType),
};

constexpr bool InEnumOrder() {
  for (size_t i = 0; i < std::size(kEncodings); ++i) {
    if (kEncodings[i].encoding != static_cast<Encoding>(i)) return false;
  }
  return true;
}
static_assert(InEnumOrder());

}  // namespace

// The first four pairs lie in the low bits of bytes 0-7, the last four in the nibbles of bytes 8-11 with their upper
// two bits above the first ones.
SubScale UnpackSubScale(const uint8_t* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[i + 4] & 63};
  return {(packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4), (packed[i + 4] >> 4) | ((packed[i] >> 6) << 4)};
}

const EncodingTraits& TraitsOf(Encoding encoding) {
  const auto index = static_cast<size_t>(encoding);
  NIBBLE_CHECK(index < std::size(kEncodings));
  return kEncodings[index];
}

const EncodingTraits* FindByGgufType(uint32_t gguf_type) {
  if (gguf_type == kNoGgufType) return nullptr;
  for (const EncodingTraits& traits : kEncodings) {
    if (traits.gguf_type == gguf_type) return &traits;
  }
  return nullptr;
}

absl::Span<const EncodingTraits> AllEncodings() { return kEncodings; }

}  // namespace nibble::engine
