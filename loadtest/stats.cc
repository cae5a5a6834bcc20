#include "loadtest/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

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
  std::vector<double> ttft, tpot, itl, e2el, queue;

  void Add(const Record& record) {
    const Latency latency = LatencyOf(record);
    ttft.push_back(latency.ttft_ms);
    e2el.push_back(latency.e2el_ms);
    itl.insert(itl.end(), latency.itl_ms.begin(), latency.itl_ms.end());
    if (record.queue_ms.has_value()) queue.push_back(*record.queue_ms);
    if (latency.tpot_ms.has_value()) tpot.push_back(*latency.tpot_ms);
  }
};

void Count(const Record& record, Summary& summary) {
  switch (record.outcome) {
    case Outcome::kFailed:
      ++summary.failed;
      ++summary.failures[record.status];
      return;
    case Outcome::kCancelled:
      ++summary.cancelled;
      return;
    case Outcome::kStalled:
      ++summary.stalled;
      return;
    case Outcome::kCompleted:
      ++summary.completed;
      summary.input_tokens += record.prompt_tokens;
      summary.output_tokens += record.output_tokens;
  }
}

// What came in some time, of completed answers.
struct Work {
  double requests = 0;
  double input_tokens = 0;
  double output_tokens = 0;
};

Work CountAll(const Summary& summary) {
  return {static_cast<double>(summary.completed), static_cast<double>(summary.input_tokens),
          static_cast<double>(summary.output_tokens)};
}

Work CountIn(const Window& window, const Measurement& run) {
  Work work;
  for (const Record& record : run.records) {
    if (record.outcome != Outcome::kCompleted || record.chunks.empty()) continue;
    if (window.Holds(record.chunks.back())) ++work.requests;
    if (window.Holds(record.chunks.front())) work.input_tokens += static_cast<double>(record.prompt_tokens);
    const auto messages = std::count_if(record.chunks.begin(), record.chunks.end(),
                                        [&window](Clock::time_point at) { return window.Holds(at); });
    work.output_tokens +=
        static_cast<double>(record.output_tokens * messages) / static_cast<double>(record.chunks.size());
  }
  return work;
}

void SetThroughput(const Work& work, Summary& summary) {
  summary.requests_per_s = work.requests / summary.duration_s;
  summary.output_tokens_per_s = work.output_tokens / summary.duration_s;
  summary.total_tokens_per_s = (work.input_tokens + work.output_tokens) / summary.duration_s;
}

// All but the throughput.
Summary SummarizeRecords(const std::vector<const Record*>& records, double seconds, const std::optional<Slo>& slo) {
  Summary summary;
  Samples samples;
  int64_t met = 0, missed = 0;
  for (const Record* record : records) {
    Count(*record, summary);
    if (record->outcome == Outcome::kCompleted && !record->chunks.empty()) samples.Add(*record);
    if (!slo.has_value()) continue;
    met += Meets(*record, *slo);
    missed += Misses(*record, *slo);
  }
  summary.duration_s = seconds;
  if (slo.has_value()) {
    summary.goodput_per_s = static_cast<double>(met) / seconds;
    summary.share_met = static_cast<double>(met) / static_cast<double>(std::max<int64_t>(met + missed, 1));
  }
  summary.ttft_ms = Describe(std::move(samples.ttft));
  summary.tpot_ms = Describe(std::move(samples.tpot));
  summary.itl_ms = Describe(std::move(samples.itl));
  summary.e2el_ms = Describe(std::move(samples.e2el));
  if (!samples.queue.empty()) summary.queue_ms = Describe(std::move(samples.queue));
  return summary;
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
          Percentile(values, 0.99),
          Percentile(values, 0.999)};
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
  std::vector<const Record*> records;
  for (const Record& record : run.records) records.push_back(&record);
  Summary summary = SummarizeRecords(records, run.seconds, slo);
  SetThroughput(CountAll(summary), summary);
  summary.late_ms = Describe(run.late_ms);
  return summary;
}

std::map<std::string, Summary> SummarizeTenants(const Measurement& run, const std::optional<Slo>& slo) {
  std::map<std::string, std::vector<const Record*>> by_tenant;
  for (const Record& record : run.records) {
    if (!record.tenant.empty()) by_tenant[record.tenant].push_back(&record);
  }
  std::map<std::string, Summary> summaries;
  for (const auto& [tenant, records] : by_tenant) {
    Summary& summary = summaries[tenant] = SummarizeRecords(records, run.seconds, slo);
    SetThroughput(CountAll(summary), summary);
  }
  return summaries;
}

Summary SummarizeWindow(const Measurement& run, const std::optional<Slo>& slo, const Window& window) {
  std::vector<const Record*> records;
  for (const Record& record : run.records) {
    if (window.Holds(record.scheduled)) records.push_back(&record);
  }
  Summary summary = SummarizeRecords(records, window.seconds(), slo);
  SetThroughput(CountIn(window, run), summary);
  return summary;
}

}  // namespace nibble::loadtest
