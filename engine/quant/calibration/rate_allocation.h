// How many bits each coefficient, and how many one-byte codes each head is given.
//
// Reverse water-filling (Cover & Thomas, Elements of Information Theory, 10.3.3): at the level theta a coefficient of
// variance v > theta gets 1/2 log2(v / theta) bits and is off by theta; every other one gets none and is off by v.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_RATE_ALLOCATION_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_RATE_ALLOCATION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace nibble::engine {

inline constexpr double kBitsPerGroup = 8.0;
inline constexpr int kMaxGroupCoefficients = 16;
// A coefficient of no higher rate costs attention as much as any other and is left out: kept, those would save klt2 a
// twentieth of its KL divergence on small models.
inline constexpr double kLeastBits = 0.4;

struct Rates {
  std::vector<double> bits;  // of each coefficient
  double distortion = 0.0;   // in all
};

// `variances` need no order.
Rates ReverseWaterFill(absl::Span<const double> variances, double total_bits);

// Gives `total_groups` to the heads, at least one and at most as many as it has coefficients each, so that the sum of
// their distortions is least. variances[h] are scaled to the head's share of the loss. REQUIRES: heads.size() <=
// total_groups.
std::vector<int> AllocateGroups(absl::Span<const std::vector<double>> variances, int64_t total_groups);

// Splits coefficients among `groups` groups of nearly equal rates. Those of at most kLeastBits are left out, but for
// what makes every group hold one. groups[g] are indices into `bits`.
std::vector<std::vector<int>> GroupCoefficients(absl::Span<const double> bits, int groups);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_RATE_ALLOCATION_H_
