#include "engine/quant/calibration/rate_allocation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

// log2 of the water level over falling variances.
double LogLevel(absl::Span<const double> falling, double total_bits) {
  double sum = 0.0, level = 0.0;
  for (size_t active = 0; active < falling.size() && falling[active] > 0; ++active) {
    const double log_variance = std::log2(falling[active]);
    if (active > 0 && log_variance <= level) break;
    sum += log_variance;
    level = (sum - 2.0 * total_bits) / static_cast<double>(active + 1);
  }
  return level;
}

double DistortionOf(absl::Span<const double> variances, int groups) {
  return ReverseWaterFill(variances, kBitsPerGroup * groups).distortion;
}

}  // namespace

Rates ReverseWaterFill(absl::Span<const double> variances, double total_bits) {
  std::vector<double> falling(variances.begin(), variances.end());
  std::sort(falling.begin(), falling.end(), std::greater<>());
  const double log_level = LogLevel(falling, total_bits);
  Rates rates;
  for (const double variance : variances) {
    const double bits = variance > 0 ? std::max(0.0, 0.5 * (std::log2(variance) - log_level)) : 0.0;
    rates.bits.push_back(bits);
    rates.distortion += bits > 0 ? std::exp2(log_level) : variance;
  }
  return rates;
}

std::vector<int> AllocateGroups(absl::Span<const std::vector<double>> variances, int64_t total_groups) {
  NIBBLE_CHECK(static_cast<int64_t>(variances.size()) <= total_groups);
  // A head's distortion is convex in its rate: the largest gain first is best.
  std::vector<int> groups(variances.size(), 1);
  std::priority_queue<std::pair<double, int64_t>> gains;  // the later head first where gains are equal
  const auto offer = [&](size_t head) {
    const absl::Span<const double> of_head = variances[head];
    if (groups[head] >= static_cast<int>(of_head.size())) return;
    gains.emplace(DistortionOf(of_head, groups[head]) - DistortionOf(of_head, groups[head] + 1),
                  static_cast<int64_t>(head));
  };
  for (size_t head = 0; head < groups.size(); ++head) offer(head);
  for (int64_t left = total_groups - static_cast<int64_t>(groups.size()); left > 0 && !gains.empty(); --left) {
    const auto head = static_cast<size_t>(gains.top().second);
    gains.pop();
    ++groups[head];
    offer(head);
  }
  return groups;
}

std::vector<std::vector<int>> GroupCoefficients(absl::Span<const double> bits, int groups) {
  NIBBLE_CHECK(groups >= 1 && groups <= static_cast<int>(bits.size()));
  std::vector<int> order(bits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return bits[a] > bits[b]; });
  std::vector<std::vector<int>> members(static_cast<size_t>(groups));
  std::vector<double> loads(members.size());
  for (size_t i = 0; i < order.size(); ++i) {
    if (i >= members.size() && !(bits[order[i]] > kLeastBits)) break;
    // The largest goes where there is least so far; first, one into every group.
    size_t least = i < members.size() ? i : 0;
    for (size_t g = 1; i >= members.size() && g < members.size(); ++g) {
      const bool open = members[g].size() < kMaxGroupCoefficients;
      if (open && (loads[g] < loads[least] || members[least].size() == kMaxGroupCoefficients)) least = g;
    }
    if (members[least].size() == kMaxGroupCoefficients) break;
    members[least].push_back(order[i]);
    loads[least] += bits[order[i]];
  }
  return members;
}

}  // namespace nibble::engine
