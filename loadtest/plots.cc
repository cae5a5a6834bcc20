#include "loadtest/plots.h"

#include <algorithm>
#include <cmath>

#include "loadtest/stats.h"

namespace nibble::loadtest {
namespace {

constexpr int64_t kMostBins = 48;
constexpr double kLeastMs = 0.01;
constexpr double kMostSteps = 120;

bool Counts(const Record& record) { return record.outcome == Outcome::kCompleted && !record.chunks.empty(); }

// The shortest of 0.1, 0.2, 0.5, 1, 2, 5, … seconds that is not too short.
double StepOf(double seconds) {
  double decade = 0.1;
  while (true) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (seconds <= kMostSteps * decade * factor) return decade * factor;
    }
    decade *= 10;
  }
}

}  // namespace

Histogram LogHistogram(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const double low = std::log(std::max(*least, kLeastMs));
  const double high = std::log(std::max(*most, kLeastMs));
  const int64_t bins = low == high ? 1 : kMostBins;
  const double width = low == high ? 1 : (high - low) / static_cast<double>(bins);
  Histogram histogram;
  for (int64_t i = 0; i <= bins; ++i) histogram.edges.push_back(std::exp(low + width * static_cast<double>(i)));
  histogram.counts.resize(bins);
  for (const double value : values) {
    const auto bin = static_cast<int64_t>((std::log(std::max(value, kLeastMs)) - low) / width);
    ++histogram.counts[std::clamp<int64_t>(bin, 0, bins - 1)];
  }
  return histogram;
}

Histogram TtftHistogram(const Measurement& run) {
  std::vector<double> values;
  for (const Record& record : run.records) {
    if (Counts(record)) values.push_back(LatencyOf(record).ttft_ms);
  }
  return LogHistogram(values);
}

Histogram ItlHistogram(const Measurement& run) {
  std::vector<double> values;
  for (const Record& record : run.records) {
    if (!Counts(record)) continue;
    const std::vector<double> gaps = LatencyOf(record).itl_ms;
    values.insert(values.end(), gaps.begin(), gaps.end());
  }
  return LogHistogram(values);
}

TokenRate OutputTokenRate(const Measurement& run) {
  TokenRate rate{StepOf(run.seconds), {}};
  rate.tokens_per_s.resize(std::max<size_t>(1, static_cast<size_t>(std::ceil(run.seconds / rate.step_s))));
  for (const Record& record : run.records) {
    if (!Counts(record)) continue;
    const double tokens = static_cast<double>(record.output_tokens) / static_cast<double>(record.chunks.size());
    for (const Clock::time_point at : record.chunks) {
      const double seconds = std::chrono::duration<double>(at - run.start).count();
      const auto step = static_cast<size_t>(std::max(seconds, 0.0) / rate.step_s);
      rate.tokens_per_s[std::min(step, rate.tokens_per_s.size() - 1)] += tokens / rate.step_s;
    }
  }
  return rate;
}

}  // namespace nibble::loadtest
