// Draws that follow from a seed alone, the same with every standard library (SplitMix64: Steele, Lea, Flood, OOPSLA
// 2014).
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_SEEDED_RANDOM_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_SEEDED_RANDOM_H_

#include <cstdint>

namespace nibble::engine {

class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_SEEDED_RANDOM_H_
