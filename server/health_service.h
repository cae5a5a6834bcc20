// grpc.health.v1.Health. Our own and not gRPC's built-in one, because a drain must end the Watch streams: gRPC's
// shutdown waits for every open call.
#ifndef NIBBLE_SERVER_HEALTH_SERVICE_H_
#define NIBBLE_SERVER_HEALTH_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace nibble::server {

class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  // SERVING for the server ("") and for each of `services`.
  explicit HealthService(std::vector<std::string> services);

  // Any thread. NOT_SERVING from now on; every Watch hears it and ends.
  void BeginDrain();
  // Any thread. Watch calls that are open.
  int64_t watchers() const;

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  class Watcher;

  bool Knows(const std::string& service) const;
  void Remove(Watcher* watcher);

  const std::vector<std::string> services_;
  mutable absl::Mutex mu_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<Watcher*> watchers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_HEALTH_SERVICE_H_
