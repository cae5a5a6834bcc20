#include "loadtest/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble::loadtest {
namespace {

// REQUIRES: `sorted` is not empty, 0 <= fraction <= 1.
double Percentile(const std::vector<double>& sorted, double fraction) {
  const double rank = fraction * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double Milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

struct Samples {
  std::vector<double> ttft, tpot, itl, e2el;

  void Add(const Record& record) {
    const Latency latency = LatencyOf(record);
    ttft.push_back(latency.ttft_ms);
    e2el.push_back(latency.e2el_ms);
    itl.insert(itl.end(), latency.itl_ms.begin(), latency.itl_ms.end());
    if (latency.tpot_ms.has_value()) tpot.push_back(*latency.tpot_ms);
  }
};

void Count(const Record& record, Summary& summary) {
  switch (record.outcome) {
    case Outcome::kFailed:
      ++summary.failed;
      ++summary.failures[record.error];
      return;
    case Outcome::kCancelled:
      ++summary.cancelled;
      return;
    case Outcome::kCompleted:
      ++summary.completed;
      summary.input_tokens += record.prompt_tokens;
      summary.output_tokens += record.output_tokens;
  }
}

}  // namespace

Distribution Describe(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean,
          std::sqrt(squares / count),
          Percentile(values, 0.5),
          Percentile(values, 0.9),
          Percentile(values, 0.95),
          Percentile(values, 0.99)};
}

Latency LatencyOf(const Record& record) {
  Latency latency;
  latency.ttft_ms = Milliseconds(record.chunks.front() - record.scheduled);
  latency.e2el_ms = Milliseconds(record.chunks.back() - record.scheduled);
  for (size_t i = 1; i < record.chunks.size(); ++i) {
    latency.itl_ms.push_back(Milliseconds(record.chunks[i] - record.chunks[i - 1]));
  }
  if (record.output_tokens > 1) {
    latency.tpot_ms = (latency.e2el_ms - latency.ttft_ms) / static_cast<double>(record.output_tokens - 1);
  }
  return latency;
}

Summary Summarize(const Measurement& run, const std::optional<Slo>& slo) {
  Summary summary;
  Samples samples;
  for (const Record& record : run.records) {
    Count(record, summary);
    if (record.outcome == Outcome::kCompleted && !record.chunks.empty()) samples.Add(record);
  }
  summary.duration_s = run.seconds;
  summary.requests_per_s = static_cast<double>(summary.completed) / run.seconds;
  summary.output_tokens_per_s = static_cast<double>(summary.output_tokens) / run.seconds;
  summary.total_tokens_per_s = static_cast<double>(summary.input_tokens + summary.output_tokens) / run.seconds;
  if (slo.has_value()) {
    const auto meets = [&slo](const Record& record) { return Meets(record, *slo); };
    const auto met = static_cast<double>(std::count_if(run.records.begin(), run.records.end(), meets));
    summary.goodput_per_s = met / run.seconds;
    summary.share_met = met / static_cast<double>(run.records.size());
  }
  summary.late_ms = Describe(run.late_ms);
  summary.ttft_ms = Describe(std::move(samples.ttft));
  summary.tpot_ms = Describe(std::move(samples.tpot));
  summary.itl_ms = Describe(std::move(samples.itl));
  summary.e2el_ms = Describe(std::move(samples.e2el));
  return summary;
}

}  // namespace nibble::loadtest
