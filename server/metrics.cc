#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kvcache/page.h"
#include "server/tenant_metrics.h"

namespace nibble::server {
namespace {

using prometheus::ClientMetric;
using prometheus::Labels;
using prometheus::MetricFamily;
using prometheus::MetricType;

const std::vector<double> kFirstTokenBounds = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                               1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const std::vector<double> kRequestBounds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                            30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const std::vector<double> kTokenCountBounds = {1,   2,    5,    10,   20,    50,    100,   200,
                                               500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
// In the order of sched::FinishReason, as vLLM names them: whatever cut a request short is an abort.
constexpr const char* kFinishedReasons[] = {"stop", "length", "abort", "abort", "error"};
constexpr const char* kCancelCauses[] = {"client", "deadline", "slow_reader", "drain"};

double Seconds(sched::Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }

ClientMetric Sample(const Labels& labels, double value, MetricType type) {
  ClientMetric metric;
  for (const auto& [name, text] : labels) metric.label.push_back({name, text});
  if (type == MetricType::Gauge) metric.gauge.value = value;
  if (type == MetricType::Counter) metric.counter.value = value;
  return metric;
}

Labels With(Labels labels, const char* name, const std::string& value) {
  labels.emplace(name, value);
  return labels;
}

// Families whose one sample, or few, are read from a snapshot.
class SnapshotFamilies {
 public:
  explicit SnapshotFamilies(const Labels& labels) : labels_(labels) {}

  void Gauge(const char* name, const char* help, double value) {
    Add(name, help, MetricType::Gauge).push_back(Sample(labels_, value, MetricType::Gauge));
  }
  void Counter(const char* name, const char* help, int64_t value) {
    Add(name, help, MetricType::Counter).push_back(Sample(labels_, static_cast<double>(value), MetricType::Counter));
  }
  std::vector<ClientMetric>& Add(const char* name, const char* help, MetricType type) {
    families_.push_back(MetricFamily{name, help, type, {}});
    return families_.back().metric;
  }
  const Labels& labels() const { return labels_; }
  const std::vector<MetricFamily>& families() const { return families_; }

 private:
  const Labels labels_;
  std::vector<MetricFamily> families_;
};

double UsedFraction(const sched::Counters& c) {
  if (c.pages_total == 0) return 0.0;
  return 1.0 - static_cast<double>(c.pages_free + c.pages_cached) / static_cast<double>(c.pages_total);
}

void AddGauges(const sched::Counters& c, SnapshotFamilies& to) {
  to.Gauge("vllm:num_requests_running", "Sequences in the running batch.", static_cast<double>(c.sequences_running));
  to.Gauge("vllm:num_requests_waiting", "Requests that wait to be scheduled.",
           static_cast<double>(c.sequences_waiting));
  to.Gauge("nibble_sequences_paused", "Sequences whose reader is slow.", static_cast<double>(c.sequences_paused));
  to.Gauge("nibble_waiting_prompt_tokens", "Prompt tokens that wait to be computed.",
           static_cast<double>(c.tokens_waiting));
  to.Gauge("vllm:kv_cache_usage_perc", "Share of KV pages in use, 0 to 1; pages that can be evicted count as free.",
           UsedFraction(c));
}

void AddCacheInfo(const sched::Counters& c, const std::string& kv_codec, SnapshotFamilies& to) {
  Labels labels = With(to.labels(), "block_size", absl::StrCat(kv::kPageTokens));
  labels.emplace("num_gpu_blocks", absl::StrCat(c.pages_total));
  labels.emplace("cache_dtype", kv_codec);
  to.Add("vllm:cache_config_info", "How the KV cache is configured.", MetricType::Gauge)
      .push_back(Sample(labels, 1.0, MetricType::Gauge));
}

// Tokens that the cache holds when sequences are as long as those that run now: pages bound the one, raw slots the
// number of sequences.
double CapacityTokens(const sched::Counters& c, const engine::KvCosts& costs) {
  const double tokens = static_cast<double>(c.pages_total * kv::kPageTokens);
  const int64_t running = c.sequences_running + c.sequences_paused;
  if (c.raw_slots_total == 0 || running == 0) return tokens;
  const double held = static_cast<double>((c.pages_total - c.pages_free - c.pages_cached) * kv::kPageTokens);
  const int64_t sequences = c.raw_slots_total / (costs.sink_pages + costs.window_pages + 1);
  return std::min(tokens, static_cast<double>(sequences) * held / static_cast<double>(running));
}

void AddKvMemory(const sched::Counters& c, const KvInfo& kv, SnapshotFamilies& to) {
  const std::pair<const char*, int64_t> forms[] = {
      {"pages_used", (c.pages_total - c.pages_free - c.pages_cached) * kv.costs.page_bytes},
      {"pages_cached", c.pages_cached * kv.costs.page_bytes},
      {"pages_free", c.pages_free * kv.costs.page_bytes},
      {"raw_used", (c.raw_slots_total - c.raw_slots_free - c.raw_slots_cached) * kv.costs.raw_page_bytes},
      {"raw_cached", c.raw_slots_cached * kv.costs.raw_page_bytes},
      {"raw_free", c.raw_slots_free * kv.costs.raw_page_bytes},
      {"tables", kv.costs.table_bytes + kv.costs.passing_bytes},
  };
  auto& bytes = to.Add("nibble_kv_bytes", "Memory of the KV cache, by form.", MetricType::Gauge);
  for (const auto& [form, count] : forms) {
    bytes.push_back(Sample(With(to.labels(), "form", form), static_cast<double>(count), MetricType::Gauge));
  }
  to.Gauge("nibble_kv_bits_per_element", "Of a sealed page, with all parameters.", kv.bits);
  to.Gauge("nibble_kv_capacity_tokens", "Tokens that the KV cache holds at the present mix of sequences.",
           CapacityTokens(c, kv.costs));
}

void AddCounters(const sched::Counters& c, SnapshotFamilies& to) {
  to.Counter("vllm:num_preemptions_total", "Sequences preempted.", c.preemptions);
  to.Counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
             c.prefix_queries_tokens);
  to.Counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", c.prefix_hits_tokens);
  to.Counter("vllm:prompt_tokens_total", "Prompt tokens processed.", c.prompt_tokens);
  to.Counter("vllm:generation_tokens_total", "Tokens generated.", c.generated_tokens);
  to.Counter("nibble_recomputed_tokens_total", "Tokens computed again after a preemption.", c.recomputed_tokens);
  to.Counter("nibble_steps_total", "Steps of the engine.", c.steps);
  to.Counter("nibble_step_tokens_total", "Tokens of all steps.", c.step_tokens);
}

void AddFinished(const sched::Counters& c, SnapshotFamilies& to) {
  std::map<std::string, int64_t> by_reason;
  for (size_t i = 0; i < c.finished.size(); ++i) by_reason[kFinishedReasons[i]] += c.finished[i];
  auto& finished = to.Add("vllm:request_success_total", "Requests finished, by reason.", MetricType::Counter);
  for (const auto& [reason, count] : by_reason) {
    finished.push_back(
        Sample(With(to.labels(), "finished_reason", reason), static_cast<double>(count), MetricType::Counter));
  }
  auto& cancelled = to.Add("nibble_cancelled_total", "Requests cut short, by cause.", MetricType::Counter);
  for (size_t i = 0; i < c.cancelled.size(); ++i) {
    cancelled.push_back(
        Sample(With(to.labels(), "cause", kCancelCauses[i]), static_cast<double>(c.cancelled[i]), MetricType::Counter));
  }
}

}  // namespace

struct Metrics::Series {
  explicit Series(const std::string& model_name) : labels{{"model_name", model_name}, {"engine", "0"}} {}

  prometheus::Histogram& AddHistogram(const char* name, const char* help, const std::vector<double>& bounds) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels, bounds);
  }

  const Labels labels;
  prometheus::Registry registry;
  const std::vector<double> token_bounds{kTokenLatencyBounds.begin(), kTokenLatencyBounds.end()};
  prometheus::Histogram& first_token =
      AddHistogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", kFirstTokenBounds);
  prometheus::Histogram& inter_token =
      AddHistogram("vllm:inter_token_latency_seconds", "Between two tokens of one answer.", token_bounds);
  prometheus::Histogram& per_output_token = AddHistogram("vllm:request_time_per_output_token_seconds",
                                                         "Mean of a request, the first token excluded.", token_bounds);
  prometheus::Histogram& end_to_end =
      AddHistogram("vllm:e2e_request_latency_seconds", "From arrival to the end of the answer.", kRequestBounds);
  prometheus::Histogram& queue =
      AddHistogram("vllm:request_queue_time_seconds", "From arrival to the first step.", kRequestBounds);
  prometheus::Histogram& prefill =
      AddHistogram("vllm:request_prefill_time_seconds", "From the first step to the first token.", kRequestBounds);
  prometheus::Histogram& decode =
      AddHistogram("vllm:request_decode_time_seconds", "From the first token to the end.", kRequestBounds);
  prometheus::Histogram& prompt_tokens =
      AddHistogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", kTokenCountBounds);
  prometheus::Histogram& generation_tokens =
      AddHistogram("vllm:request_generation_tokens", "Tokens generated for a request.", kTokenCountBounds);
  prometheus::Family<prometheus::Counter>& rejections = prometheus::BuildCounter()
                                                            .Name("vllm:admission_rejections_total")
                                                            .Help("Requests refused, by status code.")
                                                            .Register(registry);
  TenantMetrics tenants{labels, registry};
};

Metrics::Metrics(std::string model_name, KvInfo kv, std::function<sched::Counters()> snapshot)
    : model_name_(std::move(model_name)),
      kv_(std::move(kv)),
      snapshot_(std::move(snapshot)),
      series_(std::make_unique<Series>(model_name_)) {}

Metrics::~Metrics() = default;

void Metrics::ObserveRequest(const RequestTimings& t, const std::string& tenant) {
  series_->tenants.CountServed(tenant, t.prompt_tokens, t.generated_tokens);
  series_->queue.Observe(Seconds(t.queue_time));
  series_->end_to_end.Observe(Seconds(t.end - t.arrival));
  series_->prompt_tokens.Observe(static_cast<double>(t.prompt_tokens));
  series_->generation_tokens.Observe(static_cast<double>(t.generated_tokens));
  if (t.first_token == 0) return;
  series_->first_token.Observe(Seconds(t.first_token - t.arrival));
  series_->prefill.Observe(Seconds(t.first_token - t.arrival - t.queue_time));
  series_->decode.Observe(Seconds(t.end - t.first_token));
  series_->inter_token.ObserveMultiple(t.inter_token.counts(), t.inter_token.sum_seconds());
  if (t.generated_tokens < 2) return;
  series_->per_output_token.Observe(Seconds(t.end - t.first_token) / static_cast<double>(t.generated_tokens - 1));
}

void Metrics::CountRejection(absl::StatusCode code, const std::string& tenant) {
  series_->tenants.CountRefused(tenant);
  const std::string reason = absl::AsciiStrToLower(absl::StatusCodeToString(code));
  series_->rejections.Add(With(series_->labels, "reason", reason)).Increment();
}

void Metrics::CountCancelled(sched::CancelCause cause) { ++cancelled_early_[static_cast<size_t>(cause)]; }

std::string Metrics::Render() const {
  sched::Counters counters = snapshot_();
  for (size_t i = 0; i < cancelled_early_.size(); ++i) counters.cancelled[i] += cancelled_early_[i];
  SnapshotFamilies families(series_->labels);
  AddGauges(counters, families);
  AddCacheInfo(counters, kv_.codec, families);
  AddKvMemory(counters, kv_, families);
  AddCounters(counters, families);
  AddFinished(counters, families);
  const prometheus::TextSerializer serializer;
  return serializer.Serialize(families.families()) + serializer.Serialize(series_->registry.Collect());
}

}  // namespace nibble::server
