#include "scheduler/admission.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "scheduler/validate.h"

namespace nibble::sched {
namespace {

constexpr char kRetryAfterUrl[] = "nibble/retry-after-nanos";

absl::Status Exhausted(absl::string_view what, Nanos retry_after) {
  absl::Status status = absl::ResourceExhaustedError(what);
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(retry_after)));
  return status;
}

}  // namespace

absl::Status Admission::Admit(const Request& request) {
  NIBBLE_RETURN_IF_ERROR(Validate(request, limits_));
  MutexLock lock(&mutex_);
  if (live_.contains(std::make_pair(request.tenant, request.id))) {
    return absl::AlreadyExistsError("request_id: a request of this id is live");
  }
  NIBBLE_RETURN_IF_ERROR(CheckQueue(request));
  NIBBLE_RETURN_IF_ERROR(CheckRates(request.tenant, request.terms, request.arrival));
  TakeFromRates(request);
  live_.emplace(request.tenant, request.id);
  ++waiting_;
  ++waiting_by_tenant_[request.tenant];
  waiting_tokens_ += static_cast<int64_t>(request.prompt.size());
  return absl::OkStatus();
}

absl::Status Admission::CheckRoom(const std::string& tenant, const TenantTerms& terms, Nanos now) const {
  MutexLock lock(&mutex_);
  NIBBLE_RETURN_IF_ERROR(CheckCounts(tenant, terms));
  return CheckRates(tenant, terms, now);
}

absl::Status Admission::CheckCounts(const std::string& tenant, const TenantTerms& terms) const {
  if (waiting_ >= options_.max_queue) return Exhausted("the queue is full", options_.retry_after);
  if (const auto found = waiting_by_tenant_.find(tenant);
      found != waiting_by_tenant_.end() && found->second >= terms.max_waiting.value_or(options_.max_queue_per_tenant)) {
    return Exhausted("this tenant's share of the queue is full", options_.retry_after);
  }
  // Readers that stall keep requests live that neither wait nor run.
  if (static_cast<int64_t>(live_.size()) >= options_.max_queue + options_.max_started) {
    return Exhausted("too many requests are live", options_.retry_after);
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckRates(const std::string& tenant, const TenantTerms& terms, Nanos now) const {
  const auto found = rates_.find(tenant);
  if (found == rates_.end()) return absl::OkStatus();
  if (const Nanos wait = found->second.requests.Wait(terms.requests_per_minute, now); wait > 0) {
    return Exhausted("this tenant's requests per minute are used up", wait);
  }
  if (const Nanos wait = found->second.tokens.Wait(terms.tokens_per_minute, now); wait > 0) {
    return Exhausted("this tenant's tokens per minute are used up", wait);
  }
  return absl::OkStatus();
}

// The prompt's tokens now, the answer's when it ends.
void Admission::TakeFromRates(const Request& request) {
  const TenantTerms& terms = request.terms;
  if (terms.requests_per_minute == kUnlimited && terms.tokens_per_minute == kUnlimited) return;
  const Nanos now = request.arrival;
  if (!rates_.contains(request.tenant)) {
    absl::erase_if(rates_, [now](const auto& entry) {
      return entry.second.requests.IsFull(now) && entry.second.tokens.IsFull(now);
    });
  }
  Rates& rates = rates_[request.tenant];
  rates.requests.Take(1, terms.requests_per_minute, now);
  rates.tokens.Take(static_cast<int64_t>(request.prompt.size()), terms.tokens_per_minute, now);
}

absl::Status Admission::CheckQueue(const Request& request) const {
  NIBBLE_RETURN_IF_ERROR(CheckCounts(request.tenant, request.terms));
  if (waiting_tokens_ + static_cast<int64_t>(request.prompt.size()) > options_.max_queue_tokens && waiting_ > 0) {
    return Exhausted("too many prompt tokens are waiting", options_.retry_after);
  }
  return absl::OkStatus();
}

void Admission::Started(const Request& request) {
  MutexLock lock(&mutex_);
  ReleaseWaiting(request);
}

void Admission::Finished(const Request& request, bool started, int64_t generated_tokens) {
  MutexLock lock(&mutex_);
  // The entry may have been forgotten meanwhile, as if nothing had ever been taken.
  const int64_t per_minute = request.terms.tokens_per_minute;
  if (per_minute != kUnlimited && generated_tokens > 0) {
    rates_[request.tenant].tokens.Take(generated_tokens, per_minute, request.arrival);
  }
  if (!started) ReleaseWaiting(request);
  live_.erase(std::make_pair(request.tenant, request.id));
}

void Admission::ReleaseWaiting(const Request& request) {
  --waiting_;
  waiting_tokens_ -= static_cast<int64_t>(request.prompt.size());
  const auto found = waiting_by_tenant_.find(request.tenant);
  if (--found->second == 0) waiting_by_tenant_.erase(found);
}

std::optional<Nanos> RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterUrl);
  Nanos nanos = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &nanos)) return std::nullopt;
  return nanos;
}

}  // namespace nibble::sched
