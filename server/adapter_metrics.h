// What /metrics says of adapters. `vllm:lora_requests_info` has the shape of vLLM's, so that gateways which route by
// adapter find it here too. Any thread.
#ifndef NIBBLE_SERVER_ADAPTER_METRICS_H_
#define NIBBLE_SERVER_ADAPTER_METRICS_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/adapter_registry.h"

namespace nibble::server {

class AdapterMetrics {
 public:
  // `adapters` must outlive it. `max_adapters`: that one step may run.
  AdapterMetrics(std::string model_name, AdapterRegistry* adapters, int64_t max_adapters);

  // Prometheus text format.
  std::string Render();

 private:
  const std::string model_name_;
  AdapterRegistry* const adapters_;
  const int64_t max_adapters_;
  absl::Mutex mu_;
  std::string running_ ABSL_GUARDED_BY(mu_), waiting_ ABSL_GUARDED_BY(mu_);  // as of the last scrape
  double changed_ ABSL_GUARDED_BY(mu_) = 0;  // when a scrape last found others, unix time
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ADAPTER_METRICS_H_
