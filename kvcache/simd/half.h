// Halves to and from float32, bfloat16 to float32, the same bits on every machine: plain integer code, no F16C. The
// reference that vectorized conversions are tested against.
//
// Float to half rounds to nearest, ties to even; denormals are kept, overflow becomes infinity, NaN stays NaN
// (quiet, upper payload bits kept). Formats: IEEE 754-2008 binary16; bfloat16 = upper half of binary32.
#ifndef NIBBLE_KVCACHE_SIMD_HALF_H_
#define NIBBLE_KVCACHE_SIMD_HALF_H_

#include <bit>
#include <cstdint>

namespace nibble::simd {

namespace internal {

// `bits` / 2^shift, rounded to nearest, ties to even. REQUIRES: 1 <= shift <= 24; no overflow.
constexpr uint32_t RoundShift(uint32_t bits, uint32_t shift) {
  return (bits + (1u << (shift - 1)) - 1 + ((bits >> shift) & 1)) >> shift;
}

// Magnitude of a float below 2^-14 as a half denormal, in units of 2^-24.
constexpr uint32_t HalfDenormal(uint32_t magnitude) {
  const uint32_t shift = 126 - (magnitude >> 23);
  if (shift > 24) return 0;  // below half of the least denormal
  return RoundShift((magnitude & 0x7fffff) | 0x800000, shift);
}

}  // namespace internal

constexpr uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half = 0;
  if (magnitude > 0x7f800000) {
    half = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  } else if (magnitude >= 0x477ff000) {  // 65520: halfway from the largest half to the next step
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {  // 2^-14
    half = internal::HalfDenormal(magnitude);
  } else {
    half = internal::RoundShift(magnitude - (112u << 23), 13);
  }
  return static_cast<uint16_t>(sign | half);
}

constexpr float HalfToFloat(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

constexpr float Bf16ToFloat(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }

}  // namespace nibble::simd

#endif  // NIBBLE_KVCACHE_SIMD_HALF_H_
