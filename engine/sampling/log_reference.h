// Natural logarithm from plain double arithmetic: the C library's picks its code by CPU, so its last bit may differ
// between machines (law 1).
#ifndef NIBBLE_ENGINE_SAMPLING_LOG_REFERENCE_H_
#define NIBBLE_ENGINE_SAMPLING_LOG_REFERENCE_H_

#include <bit>
#include <cstdint>

namespace nibble::engine {

// Relative error below 1e-14. REQUIRES: x is normal and positive.
inline double LogReference(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000);
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  // log(m) = 2 atanh(s), |s| <= 0.1716: the series' terms fall by a factor of 34.
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s2 = s * s;
  double sum = 0.0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2.0 * s * sum;
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_SAMPLING_LOG_REFERENCE_H_
