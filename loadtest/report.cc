#include "loadtest/report.h"

#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using Json = nlohmann::ordered_json;

void AddDistribution(const std::string& name, const Distribution& values, Json& out) {
  const std::string suffix = "_" + name + "_ms";
  out["mean" + suffix] = values.mean;
  out["median" + suffix] = values.p50;
  out["std" + suffix] = values.std;
  out["p50" + suffix] = values.p50;
  out["p90" + suffix] = values.p90;
  out["p95" + suffix] = values.p95;
  out["p99" + suffix] = values.p99;
  out["p99.9" + suffix] = values.p999;
}

// What a server said may be no UTF-8, which JSON must be.
std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

// JSON has no infinity.
Json Rate(double rate) { return std::isinf(rate) ? Json("inf") : Json(rate); }

const char* NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kCompleted:
      return "completed";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kCancelled:
      return "cancelled";
    case Outcome::kStalled:
      break;
  }
  return "stalled";
}

Json ToJson(const Record& record, Clock::time_point start) {
  const auto since = [](Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); };
  Json line = {{"scheduled_ms", since(record.scheduled - start)},
               {"sent_ms", since(record.sent - start)},
               {"outcome", NameOf(record.outcome)},
               {"input_tokens", record.prompt_tokens},
               {"output_tokens", record.output_tokens}};
  if (!record.adapter.empty()) line["adapter"] = record.adapter;
  if (!record.tenant.empty()) line["tenant"] = record.tenant;
  if (!record.error.empty()) line["error"] = record.error;
  if (record.chunks.empty()) return line;
  const Latency latency = LatencyOf(record);
  line["ttft_ms"] = latency.ttft_ms;
  line["e2el_ms"] = latency.e2el_ms;
  line["itl_ms"] = latency.itl_ms;
  return line;
}

// One list per metric that the server names, beside `time_s` from the start of the run.
Json ToJson(const ServerMetrics& metrics, Clock::time_point start) {
  Json out = {{"failed_scrapes", metrics.failed_scrapes}, {"time_s", Json::array()}};
  for (const MetricsSample& sample : metrics.samples) {
    out["time_s"].push_back(std::chrono::duration<double>(sample.at - start).count());
  }
  for (size_t row = 0; row < kScrapedMetrics.size(); ++row) {
    Json series = Json::array();
    bool said = false;
    for (const MetricsSample& sample : metrics.samples) {
      const double value = sample.values[row];
      series.push_back(std::isnan(value) ? Json() : Json(value));
      said = said || !std::isnan(value);
    }
    if (said) out[kScrapedMetrics[row].name] = std::move(series);
  }
  return out;
}

Json TextOrNull(const std::string& text) { return text.empty() ? Json() : Json(text); }

// What was asked.
Json ToJson(const Options& options, const std::string& model) {
  return {{"target", options.target},
          {"scenario", TextOrNull(options.scenario)},
          {"model_id", model},
          {"workload", options.workload},
          {"num_prompts", options.requests},
          {"request_rate", Rate(options.rate)},
          {"burstiness", options.burstiness},
          {"max_concurrency", options.max_concurrency > 0 ? Json(options.max_concurrency) : Json()},
          {"seed", options.seed},
          {"slo", TextOrNull(options.slo_text)}};
}

// What was seen.
void AddSummary(const Summary& summary, Json& out) {
  const Json figures = {{"duration", summary.duration_s},
                        {"completed", summary.completed},
                        {"failed", summary.failed},
                        {"failures", summary.failures},
                        {"cancelled", summary.cancelled},
                        {"stalled", summary.stalled},
                        {"total_input_tokens", summary.input_tokens},
                        {"total_output_tokens", summary.output_tokens},
                        {"request_throughput", summary.requests_per_s},
                        {"request_goodput", summary.goodput_per_s.has_value() ? Json(*summary.goodput_per_s) : Json()},
                        {"slo_attainment", summary.goodput_per_s.has_value() ? Json(summary.share_met) : Json()},
                        {"output_throughput", summary.output_tokens_per_s},
                        {"total_token_throughput", summary.total_tokens_per_s}};
  out.update(figures);
  AddDistribution("ttft", summary.ttft_ms, out);
  AddDistribution("tpot", summary.tpot_ms, out);
  AddDistribution("itl", summary.itl_ms, out);
  AddDistribution("e2el", summary.e2el_ms, out);
  if (summary.queue_ms.has_value()) AddDistribution("queue", *summary.queue_ms, out);
}

}  // namespace

std::string ToJson(const Options& options, const std::string& model, const Measurement& run, const Results& results) {
  Json out = ToJson(options, model);
  out["invalid"] = TextOrNull(results.invalid);
  AddSummary(results.whole, out);
  if (results.steady_state.has_value()) AddSummary(*results.steady_state, out["steady_state"]);
  for (const auto& [tenant, summary] : results.tenants) AddSummary(summary, out["tenants"][tenant]);
  out["p99_late_ms"] = results.whole.late_ms.p99;
  out["max_concurrent_requests"] = run.peak_concurrency;
  out["client_cpu_seconds"] = run.cpu_seconds;
  if (!options.metrics_url.empty()) out["metrics"] = ToJson(run.metrics, run.start);
  return Dump(out, 2);
}

std::string SweepToJson(const Options& options, const std::string& model, double highest_rate,
                        const std::vector<Probe>& probes, const Measurement& best) {
  Json out = ToJson(options, model);
  out["highest_rate"] = highest_rate;
  out["probes"] = Json::array();
  for (const Probe& probe : probes) {
    Json one = {{"request_rate", probe.rate},
                {"held", probe.held},
                {"sent", probe.sent},
                {"invalid", TextOrNull(probe.invalid)}};
    AddSummary(probe.summary, one);
    one["p99_late_ms"] = probe.summary.late_ms.p99;
    out["probes"].push_back(one);
  }
  if (!options.metrics_url.empty()) out["metrics"] = ToJson(best.metrics, best.start);
  return Dump(out, 2);
}

std::string ToJsonLines(const Measurement& run) {
  std::string text;
  for (const Record& record : run.records) {
    absl::StrAppend(&text, Dump(ToJson(record, run.start), -1));
  }
  return text;
}

std::string ToText(const Probe& probe) {
  return absl::StrFormat("%8.2f requests/s: %s, %5.1f %% of %d met, TTFT p99 %.1f ms, TPOT p99 %.2f ms\n", probe.rate,
                         probe.held ? "held    " : "not held", 100 * probe.summary.share_met, probe.sent,
                         probe.summary.ttft_ms.p99, probe.summary.tpot_ms.p99);
}

namespace {

std::string ToText(const Summary& summary) {
  std::string text =
      absl::StrFormat("%d completed, %d failed, %d cancelled", summary.completed, summary.failed, summary.cancelled);
  if (summary.stalled > 0) absl::StrAppendFormat(&text, ", %d stalled", summary.stalled);
  absl::StrAppendFormat(&text, " in %.2f s\n%.2f requests/s, %.1f output tokens/s, %.1f tokens/s in all\n",
                        summary.duration_s, summary.requests_per_s, summary.output_tokens_per_s,
                        summary.total_tokens_per_s);
  for (const auto& [error, count] : summary.failures)
    absl::StrAppendFormat(&text, "%d failed with: %s\n", count, error);
  if (summary.goodput_per_s.has_value()) {
    absl::StrAppendFormat(&text, "%.2f requests/s met the objective, %.1f %% of them\n", *summary.goodput_per_s,
                          100 * summary.share_met);
  }
  absl::StrAppendFormat(&text, "%-9s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50", "p90", "p99", "p99.9");
  const auto row = [&text](const char* name, const Distribution& d) {
    absl::StrAppendFormat(&text, "%-9s %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, d.mean, d.p50, d.p90, d.p99,
                          d.p999);
  };
  row("TTFT", summary.ttft_ms);
  row("TPOT", summary.tpot_ms);
  row("ITL", summary.itl_ms);
  row("E2EL", summary.e2el_ms);
  if (summary.queue_ms.has_value()) row("queue", *summary.queue_ms);
  return text;
}

std::string TenantsToText(const std::map<std::string, Summary>& tenants) {
  std::string text = absl::StrFormat("\n%-20s %9s %7s %10s %10s %10s %10s\n", "tenant", "completed", "failed",
                                     "tokens/s", "TTFT p50", "TTFT p99", "TPOT p99");
  for (const auto& [tenant, summary] : tenants) {
    absl::StrAppendFormat(&text, "%-20s %9d %7d %10.1f %10.2f %10.2f %10.2f\n", tenant, summary.completed,
                          summary.failed, summary.output_tokens_per_s, summary.ttft_ms.p50, summary.ttft_ms.p99,
                          summary.tpot_ms.p99);
  }
  return text;
}

}  // namespace

std::string ToText(const Results& results) {
  std::string text = ToText(results.whole);
  if (!results.tenants.empty()) absl::StrAppend(&text, TenantsToText(results.tenants));
  if (results.steady_state.has_value())
    absl::StrAppend(&text, "\nin the steady state:\n", ToText(*results.steady_state));
  return text;
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::FILE* file = path == "-" ? stdout : std::fopen(path.c_str(), "w");
  if (file == nullptr) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  const bool whole = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = file == stdout ? std::fflush(file) == 0 : std::fclose(file) == 0;
  return whole && closed ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", path));
}

}  // namespace nibble::loadtest
