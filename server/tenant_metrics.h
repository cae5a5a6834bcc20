// What each tenant was served, as metrics. The set of labels is bounded, whatever tenants come and go: the first so
// many have labels of their own, all others are `other`. Any thread.
#ifndef NIBBLE_SERVER_TENANT_METRICS_H_
#define NIBBLE_SERVER_TENANT_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/labels.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"

namespace nibble::server {

inline constexpr size_t kMostTenantLabels = 64;

class TenantMetrics {
 public:
  // Every series also has `labels`. `registry` must outlive this.
  TenantMetrics(const prometheus::Labels& labels, prometheus::Registry& registry);

  // A request that ran. Of callers without a tenant nothing is counted here.
  void CountServed(const std::string& tenant, int64_t prompt_tokens, int64_t generated_tokens);
  // One that admission refused.
  void CountRefused(const std::string& tenant);

 private:
  prometheus::Labels LabelsOf(const std::string& tenant);

  const prometheus::Labels labels_;
  prometheus::Family<prometheus::Counter>& prompt_tokens_;
  prometheus::Family<prometheus::Counter>& generated_tokens_;
  prometheus::Family<prometheus::Counter>& refused_;
  absl::Mutex mu_;
  absl::flat_hash_set<std::string> named_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TENANT_METRICS_H_
