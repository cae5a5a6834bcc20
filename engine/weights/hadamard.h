// Groups of 32 inputs turned by a Hadamard matrix, so that no input of a group is much larger than the others when all
// are rounded with one step: QuaRot (arXiv 2404.00456, section 4) turns whole rows, here each group alone.
//
// H is symmetric, its entries are 1 and -1, H H = 32. Inputs x become H x / 8 and weights w become H w / 4, factors
// that are exact where the square root of 32 is not; the sum of the products stays what it was.
#ifndef NIBBLE_ENGINE_WEIGHTS_HADAMARD_H_
#define NIBBLE_ENGINE_WEIGHTS_HADAMARD_H_

namespace nibble::engine {

inline constexpr int kHadamardSize = 32;
inline constexpr float kRotatedInputFactor = 0.125f, kRotatedWeightFactor = 0.25f;

// In place: H x, in Sylvester's order. A butterfly adds and subtracts the values 16 apart, then 8, 4, 2 and 1: the
// order in which kernels do it too.
inline void Hadamard32(float* x) {
  for (int distance = kHadamardSize / 2; distance > 0; distance /= 2) {
    for (int i = 0; i < kHadamardSize; ++i) {
      if ((i & distance) != 0) continue;
      const float a = x[i], b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_HADAMARD_H_
