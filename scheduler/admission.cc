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
  live_.emplace(request.tenant, request.id);
  ++waiting_;
  ++waiting_by_tenant_[request.tenant];
  waiting_tokens_ += static_cast<int64_t>(request.prompt.size());
  return absl::OkStatus();
}

absl::Status Admission::CheckRoom(const std::string& tenant) const {
  MutexLock lock(&mutex_);
  return CheckCounts(tenant);
}

absl::Status Admission::CheckCounts(const std::string& tenant) const {
  if (waiting_ >= options_.max_queue) return Exhausted("the queue is full", options_.retry_after);
  if (const auto found = waiting_by_tenant_.find(tenant);
      found != waiting_by_tenant_.end() && found->second >= options_.max_queue_per_tenant) {
    return Exhausted("this tenant's share of the queue is full", options_.retry_after);
  }
  // Readers that stall keep requests live that neither wait nor run.
  if (static_cast<int64_t>(live_.size()) >= options_.max_queue + options_.max_started) {
    return Exhausted("too many requests are live", options_.retry_after);
  }
  return absl::OkStatus();
}

absl::Status Admission::CheckQueue(const Request& request) const {
  NIBBLE_RETURN_IF_ERROR(CheckCounts(request.tenant));
  if (waiting_tokens_ + static_cast<int64_t>(request.prompt.size()) > options_.max_queue_tokens && waiting_ > 0) {
    return Exhausted("too many prompt tokens are waiting", options_.retry_after);
  }
  return absl::OkStatus();
}

void Admission::Started(const Request& request) {
  MutexLock lock(&mutex_);
  ReleaseWaiting(request);
}

void Admission::Finished(const Request& request, bool started) {
  MutexLock lock(&mutex_);
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
