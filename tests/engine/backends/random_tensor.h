// Seeded tensors in any encoding: random blocks are valid in every format once their f16 parameters are tame.
#ifndef NIBBLE_TESTS_ENGINE_BACKENDS_RANDOM_TENSOR_H_
#define NIBBLE_TESTS_ENGINE_BACKENDS_RANDOM_TENSOR_H_

#include <cstdint>
#include <random>
#include <vector>

#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct OwnedTensor {
  std::vector<std::byte> bytes;
  Tensor tensor;
};

// Values of about unit size in f32; other encodings get random codes and parameters between about 0.01 and 0.1.
OwnedTensor RandomTensor(Encoding encoding, int64_t rows, int64_t cols, std::mt19937_64& random);

// Decoded row after row.
std::vector<float> Decode(const Tensor& tensor);

std::vector<float> RandomFloats(size_t count, std::mt19937_64& random);

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_BACKENDS_RANDOM_TENSOR_H_
