// What a tenant is entitled to. Plain values that travel with each request; the newest request's hold for the tenant.
#ifndef NIBBLE_SCHEDULER_TENANT_TERMS_H_
#define NIBBLE_SCHEDULER_TENANT_TERMS_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace nibble::sched {

inline constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

struct TenantTerms {
  double weight = 1.0;  // > 0; of two that both have work, who has twice the weight is served twice as much
  int64_t requests_per_minute = kUnlimited;  // >= 1; a minute's worth may come at once
  int64_t tokens_per_minute = kUnlimited;    // >= 1; of prompts and answers
  int64_t max_sequences = kUnlimited;        // >= 1; running at once, paused ones not counted
  int64_t max_pages = kUnlimited;            // >= 1; KV pages of its running sequences, paused ones not counted
  std::optional<int64_t> max_waiting = {};   // >= 1; requests; absent: SchedulerOptions::max_queue_per_tenant
  std::string pool = {};  // tenants of one pool share cached prefixes; empty: the tenant shares with nobody
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_TENANT_TERMS_H_
