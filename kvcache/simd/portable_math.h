// Exponential, sine and cosine in plain double arithmetic. The C library's choose their code by CPU, so the last bit
// may differ between machines, and a rounding to float after them too (law 1). These have the same bits everywhere.
//
// Any thread.
#ifndef NIBBLE_KVCACHE_SIMD_PORTABLE_MATH_H_
#define NIBBLE_KVCACHE_SIMD_PORTABLE_MATH_H_

#include <cmath>
#include <cstdint>

namespace nibble::simd {

// e^x, relative error below 1e-14. REQUIRES: |x| <= 700.
inline double PortableExp(double x) {
  const double n = std::nearbyint(x * 1.4426950408889634074);
  // ln 2 in two parts, the first with 20 zero bits at its end: n times it is exact.
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double sum = 1.0;
  for (int k = 14; k >= 1; --k) sum = sum * r / k + 1.0;
  return std::ldexp(sum, static_cast<int>(n));
}

struct SineCosine {
  double sine;
  double cosine;
};

// Absolute error below 1e-13 up to |angle| = 2^20, 1e-9 up to 2^24.
inline SineCosine PortableSineCosine(double angle) {
  const double quarter_turns = std::nearbyint(angle * 0.63661977236758134308);
  // Pi / 2 in three parts, the first two with 20 zero bits at their ends.
  const double r = ((angle - quarter_turns * 1.57079632673412561417e+00) - quarter_turns * 6.07710050630396597660e-11) -
                   quarter_turns * 2.02226624879595063154e-21;
  const double r2 = r * r;
  double sine = 1.0, cosine = 1.0;
  for (int k = 18; k >= 2; k -= 2) {
    sine = 1.0 - sine * r2 / (k * (k + 1));
    cosine = 1.0 - cosine * r2 / (k * (k - 1));
  }
  sine *= r;
  switch (static_cast<int64_t>(quarter_turns) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace nibble::simd

#endif  // NIBBLE_KVCACHE_SIMD_PORTABLE_MATH_H_
