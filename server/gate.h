// Lets calls in: finds the caller by its key or certificate, and holds the method against the table of access.h.
#ifndef NIBBLE_SERVER_GATE_H_
#define NIBBLE_SERVER_GATE_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/tenants.h"

namespace nibble::server {

class Gate {
 public:
  // Null: there are no tenants, and every caller is anonymous.
  explicit Gate(std::shared_ptr<const Tenants> tenants = nullptr) : tenants_(std::move(tenants)) {}

  // Any thread. For calls that come from now on. False: they are those that it has. REQUIRES: the gate was made with
  // tenants.
  bool Replace(std::shared_ptr<const Tenants> tenants);
  // Any thread. Whether there are tenants; does not change.
  bool has_tenants() const { return tenants() != nullptr; }

  // Any thread; a few microseconds, and reads metadata only. `method` is the name as registered, never the client's.
  // UNAUTHENTICATED: no caller was found, said alike whatever was wrong. PERMISSION_DENIED: not for this one, or the
  // table does not have the method.
  absl::StatusOr<Caller> Enter(std::string_view method, const grpc::ServerContextBase& context) const;

 private:
  std::shared_ptr<const Tenants> tenants() const;

  mutable absl::Mutex mu_;
  std::shared_ptr<const Tenants> tenants_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GATE_H_
