// Lets calls in: finds the caller by its key or certificate, and holds the method against the table of access.h.
#ifndef NIBBLE_SERVER_GATE_H_
#define NIBBLE_SERVER_GATE_H_

#include <grpcpp/server_context.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/tenants.h"

namespace nibble::server {

class Gate {
 public:
  // No tenants: every caller is anonymous. `metadata_bytes` is what a call may bring of it, as HTTP/2 counts: name,
  // value and 32 for each.
  Gate(std::shared_ptr<const Tenants> tenants, int64_t metadata_bytes)
      : metadata_bytes_(metadata_bytes), tenants_(std::move(tenants)) {}

  // Any thread. For calls that come from now on. False: they are those that it has. REQUIRES: the gate was made with
  // tenants.
  bool Replace(std::shared_ptr<const Tenants> tenants);
  // Any thread. Whether there are tenants; does not change.
  bool has_tenants() const { return tenants() != nullptr; }

  // Any thread; a few microseconds, and reads metadata only. `method` is the name as registered, never the client's.
  // RESOURCE_EXHAUSTED: too much metadata. UNAUTHENTICATED: no caller was found, said alike whatever was wrong.
  // PERMISSION_DENIED: not for this one, or the table does not have the method.
  absl::StatusOr<Caller> Enter(std::string_view method, const grpc::ServerContextBase& context) const;

 private:
  std::shared_ptr<const Tenants> tenants() const;

  const int64_t metadata_bytes_;
  mutable absl::Mutex mu_;
  std::shared_ptr<const Tenants> tenants_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GATE_H_
