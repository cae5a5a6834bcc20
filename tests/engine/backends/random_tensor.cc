#include "tests/engine/backends/random_tensor.h"

#include <cstring>

#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

// Where a block keeps its f16 parameters.
std::vector<int64_t> HalfOffsets(Encoding encoding) {
  switch (encoding) {
    case Encoding::kQ8_0:
    case Encoding::kH8_0:
    case Encoding::kQ4_0:
    case Encoding::kQ5_0:
      return {0};
    case Encoding::kQ4_1:
    case Encoding::kQ5_1:
    case Encoding::kQ4_K:
    case Encoding::kQ5_K:
      return {0, 2};
    case Encoding::kQ6_K:
      return {208};
    default:
      return {};
  }
}

void FillFloats(Encoding encoding, std::mt19937_64& random, std::vector<std::byte>& bytes) {
  const size_t size = TraitsOf(encoding).block_bytes;
  for (size_t i = 0; i < bytes.size() / size; ++i) {
    const float value = RandomFloats(1, random)[0];
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint16_t half = encoding == Encoding::kF16 ? simd::FloatToHalf(value) : static_cast<uint16_t>(bits >> 16);
    std::memcpy(&bytes[i * size], size == 4 ? static_cast<const void*>(&bits) : &half, size);
  }
}

}  // namespace

std::vector<float> RandomFloats(size_t count, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

OwnedTensor RandomTensor(Encoding encoding, int64_t rows, int64_t cols, std::mt19937_64& random) {
  const EncodingTraits& traits = TraitsOf(encoding);
  OwnedTensor owned;
  owned.bytes.resize(rows * cols / traits.block_elements * traits.block_bytes);
  if (traits.block_elements == 1) {
    FillFloats(encoding, random, owned.bytes);
  } else {
    for (std::byte& byte : owned.bytes) byte = static_cast<std::byte>(random());
    std::uniform_real_distribution<float> parameter(0.01f, 0.1f);
    for (size_t block = 0; block < owned.bytes.size(); block += traits.block_bytes) {
      for (int64_t offset : HalfOffsets(encoding)) {
        const uint16_t half = simd::FloatToHalf(parameter(random));
        std::memcpy(&owned.bytes[block + offset], &half, 2);
      }
    }
  }
  owned.tensor = {"random", encoding, {rows, cols}, owned.bytes};
  return owned;
}

std::vector<float> Decode(const Tensor& tensor) {
  std::vector<float> values(tensor.rows() * tensor.cols());
  TraitsOf(tensor.encoding).decode(tensor.data.data(), absl::MakeSpan(values));
  return values;
}

}  // namespace nibble::engine
