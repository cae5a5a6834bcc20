#include "engine/quant/weight_groups.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kvcache/base/check.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

using simd::FloatToHalf;
using simd::HalfToFloat;

float ReadHalf(const std::byte* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return HalfToFloat(half);
}

// Each reader takes one block of the file to `block_elements / 32` groups. Layouts: GGUF, as in encoding.cc.
using BlockReader = void (*)(const uint8_t* block, int8_t* codes, float* scales, float* mins);

void SplitNibbles(const uint8_t* packed, int8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<int8_t>(packed[i] & 15);
    codes[i + 16] = static_cast<int8_t>(packed[i] >> 4);
  }
}

// Adds the fifth bits, one per element in `high`, to codes that hold four.
void AddFifthBits(const uint8_t* high, int8_t* codes) {
  uint32_t bits;
  std::memcpy(&bits, high, sizeof bits);
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<int8_t>(codes[i] | ((bits >> i) & 1) << 4);
}

const std::byte* Bytes(const uint8_t* p) { return reinterpret_cast<const std::byte*>(p); }

void ReadQ4_0(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  *scales = ReadHalf(Bytes(block));
  *mins = -8.0f * *scales;
  SplitNibbles(block + 2, codes);
}

void ReadQ4_1(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  *scales = ReadHalf(Bytes(block));
  *mins = ReadHalf(Bytes(block + 2));
  SplitNibbles(block + 4, codes);
}

void ReadQ5_0(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  *scales = ReadHalf(Bytes(block));
  *mins = -16.0f * *scales;
  SplitNibbles(block + 6, codes);
  AddFifthBits(block + 2, codes);
}

void ReadQ5_1(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  *scales = ReadHalf(Bytes(block));
  *mins = ReadHalf(Bytes(block + 2));
  SplitNibbles(block + 8, codes);
  AddFifthBits(block + 4, codes);
}

void ReadQ8_0(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  *scales = ReadHalf(Bytes(block));
  *mins = 0.0f;
  std::memcpy(codes, block + 2, 32);
}

// Scales, mins and the low four bits of a K block whose nibbles start at `nibbles`.
void ReadK(const uint8_t* block, const uint8_t* nibbles, int8_t* codes, float* scales, float* mins) {
  const float d = ReadHalf(Bytes(block)), d_min = ReadHalf(Bytes(block + 2));
  for (int i = 0; i < 8; ++i) {
    const SubScale packed = UnpackSubScale(block + 4, i);
    scales[i] = d * static_cast<float>(packed.scale);
    mins[i] = -(d_min * static_cast<float>(packed.min));
    const uint8_t* bytes = nibbles + (i / 2) * 32;
    for (int j = 0; j < 32; ++j) {
      codes[i * 32 + j] = static_cast<int8_t>(i % 2 == 0 ? bytes[j] & 15 : bytes[j] >> 4);
    }
  }
}

void ReadQ4_K(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  ReadK(block, block + 16, codes, scales, mins);
}

void ReadQ5_K(const uint8_t* block, int8_t* codes, float* scales, float* mins) {
  ReadK(block, block + 48, codes, scales, mins);
  const uint8_t* high = block + 16;
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 32; ++j) {
      codes[i * 32 + j] = static_cast<int8_t>(codes[i * 32 + j] | ((high[j] >> i) & 1) << 4);
    }
  }
}

struct ExactRow {
  Encoding encoding;
  GroupFormat format;
  BlockReader read;
};

// The encodings that are group codes already.
constexpr ExactRow kExact[] = {
    {Encoding::kQ4_0, {4, true, true}, ReadQ4_0},  {Encoding::kQ4_1, {4, true, true}, ReadQ4_1},
    {Encoding::kQ4_K, {4, true, false}, ReadQ4_K}, {Encoding::kQ5_0, {8, true, false}, ReadQ5_0},
    {Encoding::kQ5_1, {8, true, false}, ReadQ5_1}, {Encoding::kQ5_K, {8, true, false}, ReadQ5_K},
    {Encoding::kQ8_0, {8, false, true}, ReadQ8_0}, {Encoding::kH8_0, {8, false, true}, ReadQ8_0},
};

const ExactRow* FindExact(const Tensor& tensor) {
  for (const ExactRow& row : kExact) {
    if (row.encoding == tensor.encoding && tensor.delta == nullptr) return &row;
  }
  return nullptr;
}

void ReadExactRow(const ExactRow& exact, const Tensor& tensor, int64_t row, GroupRow out) {
  const EncodingTraits& traits = TraitsOf(tensor.encoding);
  const int64_t blocks = tensor.cols() / traits.block_elements;
  const int64_t groups = traits.block_elements / kGroupSize;
  const std::byte* data = tensor.row(row);
  for (int64_t b = 0; b < blocks; ++b) {
    exact.read(reinterpret_cast<const uint8_t*>(data + b * traits.block_bytes),
               out.codes.data() + b * traits.block_elements, out.scales.data() + b * groups,
               out.mins.data() + b * groups);
  }
}

bool AllFinite(absl::Span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// A group that has no codes: whatever is multiplied with it is NaN, so that the row faults.
void Poison(int8_t* codes, float* scale) {
  std::memset(codes, 0, kGroupSize);
  *scale = std::numeric_limits<float>::quiet_NaN();
}

void RoundRow(absl::Span<const float> values, GroupRounding rounding, GroupRow out) {
  const int64_t groups = static_cast<int64_t>(out.scales.size());
  for (int64_t g = 0; g < groups; ++g) {
    float group[kGroupSize] = {};
    const int64_t count = std::min<int64_t>(kGroupSize, static_cast<int64_t>(values.size()) - g * kGroupSize);
    std::copy_n(values.data() + g * kGroupSize, count, group);
    int8_t* codes = out.codes.data() + g * kGroupSize;
    out.mins[g] = 0.0f;
    if (rounding == GroupRounding::kToW4) {
      RoundGroupW4(group, codes, &out.scales[g], &out.mins[g]);
    } else {
      RoundGroupW8(group, codes, &out.scales[g]);
    }
  }
}

}  // namespace

bool HasGroupCodes(const Tensor& tensor) { return FindExact(tensor) != nullptr; }

GroupFormat FormatOf(const Tensor& tensor, GroupRounding rounding) {
  if (rounding == GroupRounding::kToW4) return {4, true, true};
  const ExactRow* exact = FindExact(tensor);
  if (rounding == GroupRounding::kAsInFile && exact != nullptr) return exact->format;
  return {8, false, true};
}

bool HasRotatedCodes(const Tensor& tensor, GroupRounding rounding) {
  return tensor.encoding == Encoding::kH8_0 && HasGroupCodes(tensor) && rounding != GroupRounding::kToW4;
}

void ReadGroupRow(const Tensor& tensor, int64_t row, GroupRounding rounding, absl::Span<float> scratch, GroupRow out) {
  const ExactRow* exact = FindExact(tensor);
  // A file's own codes are kept wherever the asked format can hold them.
  if (exact != nullptr && exact->format == FormatOf(tensor, rounding)) {
    ReadExactRow(*exact, tensor, row, out);
    return;
  }
  const absl::Span<float> values = scratch.subspan(0, tensor.cols());
  DecodeRow(tensor, row, values);
  RoundRow(values, rounding, out);
}

void RoundGroupW8(absl::Span<const float> values, int8_t* codes, float* scale) {
  float largest = 0.0f;
  for (float v : values) largest = std::max(largest, std::fabs(v));
  *scale = HalfToFloat(FloatToHalf(largest / 127.0f));
  if (!AllFinite(values) || !std::isfinite(*scale)) return Poison(codes, scale);
  const float inverse = *scale > 0.0f ? 1.0f / *scale : 0.0f;
  for (size_t i = 0; i < values.size(); ++i) {
    codes[i] = static_cast<int8_t>(std::clamp(std::nearbyintf(values[i] * inverse), -127.0f, 127.0f));
  }
}

void RoundGroupW4(absl::Span<const float> values, int8_t* codes, float* scale, float* min) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  *min = HalfToFloat(FloatToHalf(*low));
  *scale = HalfToFloat(FloatToHalf((*high - *min) / 15.0f));
  if (!AllFinite(values) || !std::isfinite(*scale) || !std::isfinite(*min)) {
    *min = 0.0f;
    return Poison(codes, scale);
  }
  const float inverse = *scale > 0.0f ? 1.0f / *scale : 0.0f;
  for (size_t i = 0; i < values.size(); ++i) {
    codes[i] = static_cast<int8_t>(std::clamp(std::nearbyintf((values[i] - *min) * inverse), 0.0f, 15.0f));
  }
}

}  // namespace nibble::engine
