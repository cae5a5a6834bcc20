#include "server/health_service.h"

#include <algorithm>
#include <utility>

namespace nibble::server {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One Watch: the status now, NOT_SERVING when the drain begins, then the end.
class HealthService::Watcher final : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService* service, HealthCheckResponse::ServingStatus now) : service_(service) {
    first_.set_status(now);
    last_.set_status(HealthCheckResponse::NOT_SERVING);
    StartWrite(&first_);
  }

  void Drain() {
    absl::MutexLock lock(&mu_);
    draining_ = true;
    if (!writing_) EndLocked();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok || draining_ || cancelled_) EndLocked();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    cancelled_ = true;
    if (!writing_) EndLocked();
  }
  void OnDone() override {
    service_->Remove(this);
    delete this;
  }

 private:
  // Writes and ends in one operation, so that no reaction can come while the lock is held.
  void EndLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (std::exchange(ended_, true)) return;
    StartWriteAndFinish(&last_, grpc::WriteOptions(), grpc::Status::OK);
  }

  HealthService* const service_;
  HealthCheckResponse first_;
  HealthCheckResponse last_;
  absl::Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = true;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

HealthService::HealthService(std::vector<std::string> services) : services_(std::move(services)) {}

void HealthService::BeginDrain() {
  absl::MutexLock lock(&mu_);
  draining_ = true;
  for (Watcher* watcher : watchers_) watcher->Drain();
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::MutexLock lock(&mu_);
  response->set_status(draining_ ? HealthCheckResponse::NOT_SERVING : HealthCheckResponse::SERVING);
  reactor->Finish(Knows(request->service()) ? grpc::Status::OK
                                            : grpc::Status(grpc::StatusCode::NOT_FOUND, "service: unknown"));
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext*,
                                                                    const HealthCheckRequest* request) {
  absl::MutexLock lock(&mu_);
  auto status = HealthCheckResponse::SERVICE_UNKNOWN;
  if (Knows(request->service())) {
    status = draining_ ? HealthCheckResponse::NOT_SERVING : HealthCheckResponse::SERVING;
  }
  auto* watcher = new Watcher(this, status);
  watchers_.insert(watcher);
  if (draining_) watcher->Drain();
  return watcher;
}

bool HealthService::Knows(const std::string& service) const {
  return service.empty() || std::find(services_.begin(), services_.end(), service) != services_.end();
}

int64_t HealthService::watchers() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int64_t>(watchers_.size());
}

void HealthService::Remove(Watcher* watcher) {
  absl::MutexLock lock(&mu_);
  watchers_.erase(watcher);
}

}  // namespace nibble::server
