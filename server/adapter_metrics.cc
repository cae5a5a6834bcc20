#include "server/adapter_metrics.h"

#include <prometheus/text_serializer.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace nibble::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(const char* name, const char* help, MetricType type, double value,
                    std::vector<ClientMetric::Label> labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Gauge) metric.gauge.value = value;
  if (type == MetricType::Counter) metric.counter.value = value;
  return {name, help, type, {std::move(metric)}};
}

}  // namespace

AdapterMetrics::AdapterMetrics(std::string model_name, AdapterRegistry* adapters, int64_t max_adapters)
    : model_name_(std::move(model_name)), adapters_(adapters), max_adapters_(max_adapters) {}

std::string AdapterMetrics::Render() {
  const AdapterCounts counts = adapters_->Counts();
  const std::string running = absl::StrJoin(counts.running, ","), waiting = absl::StrJoin(counts.waiting, ",");
  double changed = 0;
  {
    absl::MutexLock lock(&mu_);
    if (changed_ == 0 || running != running_ || waiting != waiting_) {
      changed_ = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
      running_ = running;
      waiting_ = waiting;
    }
    changed = changed_;
  }
  std::vector<MetricFamily> families = {Family("vllm:lora_requests_info", "Adapters that requests run and wait with.",
                                               MetricType::Gauge, changed,
                                               {{"max_lora", absl::StrCat(max_adapters_)},
                                                {"running_lora_adapters", running},
                                                {"waiting_lora_adapters", waiting}})};
  const auto add = [&](const char* name, const char* help, MetricType type, double value) {
    families.push_back(Family(name, help, type, value, {{"model_name", model_name_}, {"engine", "0"}}));
  };
  add("nibble_adapters_loaded", "Adapters in memory.", MetricType::Gauge, static_cast<double>(counts.loaded));
  add("nibble_adapter_bytes", "Memory of adapters, replaced ones that still run included.", MetricType::Gauge,
      static_cast<double>(counts.bytes));
  add("nibble_adapter_loads_total", "Adapters read and made ready.", MetricType::Counter,
      static_cast<double>(counts.loads));
  add("nibble_adapter_load_failures_total", "Adapters that were refused.", MetricType::Counter,
      static_cast<double>(counts.failed_loads));
  add("nibble_adapter_load_seconds_total",
      "Time of all loads, the failed ones and rests for running sequences included.", MetricType::Counter,
      static_cast<double>(counts.load_time) * 1e-9);
  add("nibble_adapter_evictions_total", "Adapters that made room for others.", MetricType::Counter,
      static_cast<double>(counts.evictions));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace nibble::server
