#include "server/tenant_metrics.h"

namespace nibble::server {
namespace {

prometheus::Family<prometheus::Counter>& AddFamily(const char* name, const char* help, prometheus::Registry& registry) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

}  // namespace

TenantMetrics::TenantMetrics(const prometheus::Labels& labels, prometheus::Registry& registry)
    : labels_(labels),
      prompt_tokens_(AddFamily("nibble_tenant_prompt_tokens_total", "Prompt tokens of a tenant's requests.", registry)),
      generated_tokens_(
          AddFamily("nibble_tenant_generation_tokens_total", "Tokens generated for a tenant's requests.", registry)),
      refused_(AddFamily("nibble_tenant_rejections_total", "A tenant's requests that were refused.", registry)) {}

void TenantMetrics::CountServed(const std::string& tenant, int64_t prompt_tokens, int64_t generated_tokens) {
  if (tenant.empty()) return;
  const prometheus::Labels labels = LabelsOf(tenant);
  prompt_tokens_.Add(labels).Increment(static_cast<double>(prompt_tokens));
  generated_tokens_.Add(labels).Increment(static_cast<double>(generated_tokens));
}

void TenantMetrics::CountRefused(const std::string& tenant) {
  if (!tenant.empty()) refused_.Add(LabelsOf(tenant)).Increment();
}

prometheus::Labels TenantMetrics::LabelsOf(const std::string& tenant) {
  absl::MutexLock lock(&mu_);
  if (named_.size() < kMostTenantLabels) named_.insert(tenant);
  prometheus::Labels labels = labels_;
  labels.emplace("tenant", named_.contains(tenant) ? tenant : "other");
  return labels;
}

}  // namespace nibble::server
