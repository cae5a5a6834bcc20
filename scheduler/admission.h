// The door: proves a request, bounds what may wait, and keeps live ids unique within a tenant.
//
// Synchronized by a mutex held for a few map operations, so a submitter learns its answer at once and the loop never
// waits for a submitter's work. Accounts: a request is *waiting* from Admit until its first choice starts, and *live*
// from Admit until its last choice ended.
#ifndef NIBBLE_SCHEDULER_ADMISSION_H_
#define NIBBLE_SCHEDULER_ADMISSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "kvcache/base/mutex.h"
#include "scheduler/options.h"
#include "scheduler/rate_limit.h"
#include "scheduler/request.h"

namespace nibble::sched {

class Admission {
 public:
  Admission(const SchedulerOptions& options, const Limits& limits) : options_(options), limits_(limits) {}

  // Any thread. On OK the request counts as live and waiting. Errors, nothing kept:
  //   INVALID_ARGUMENT    a field, or a size that can never fit: the message begins with the field
  //   ALREADY_EXISTS      the id is live within the tenant
  //   RESOURCE_EXHAUSTED  too much waits already; RetryAfter(status) tells when to come back
  absl::Status Admit(const Request& request);
  // Any thread. Whether another request of the tenant could wait, if it is not too long: for refusing before
  // tokenizing. RESOURCE_EXHAUSTED as Admit.
  absl::Status CheckRoom(const std::string& tenant, const TenantTerms& terms, Nanos now) const;
  // The request's first choice starts.
  void Started(const Request& request);
  // The request ended; `started` as told before. Its answer counts against tokens_per_minute as if it had all come at
  // its arrival: what has passed since then is paid back already.
  void Finished(const Request& request, bool started, int64_t generated_tokens);

 private:
  struct Rates {
    RateLimit requests;
    RateLimit tokens;
  };

  void ReleaseWaiting(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckCounts(const std::string& tenant, const TenantTerms& terms) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckRates(const std::string& tenant, const TenantTerms& terms, Nanos now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckQueue(const Request& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeFromRates(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SchedulerOptions options_;
  const Limits limits_;
  mutable Mutex mutex_;
  absl::flat_hash_set<std::pair<std::string, std::string>> live_ ABSL_GUARDED_BY(mutex_);  // tenant, id
  absl::flat_hash_map<std::string, int64_t> waiting_by_tenant_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Rates> rates_ ABSL_GUARDED_BY(mutex_);  // of tenants that have such terms
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The hint that a RESOURCE_EXHAUSTED of Admit carries.
std::optional<Nanos> RetryAfter(const absl::Status& status);

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_ADMISSION_H_
