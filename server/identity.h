// Who may call and over which connections, as files say: the gate's tenants and the port's certificates, kept as the
// files are while the daemon serves. What a file says wrongly is logged, and what was there before stays.
#ifndef NIBBLE_SERVER_IDENTITY_H_
#define NIBBLE_SERVER_IDENTITY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/file_watch.h"
#include "server/gate.h"
#include "server/limits.h"
#include "server/tenants.h"
#include "server/tls_credentials.h"
#include "server/tls_files.h"

namespace nibble::server {

struct IdentityOptions {
  std::string tenants;  // path of the tenants file; empty: every caller is anonymous
  TlsFiles tls;
};

class Identity {
 public:
  // Reads all files. Errors name them.
  static absl::StatusOr<std::unique_ptr<Identity>> Load(const IdentityOptions& options, const Capacity& capacity,
                                                        const Limits& limits);

  const Gate& gate() const { return gate_; }
  // Null: no TLS.
  TlsCertificates* certificates() { return certificates_.get(); }
  // From now on what changes in the files changes here. Once.
  absl::Status Watch();

 private:
  Identity(const IdentityOptions& options, const Capacity& capacity, const Limits& limits,
           std::shared_ptr<const Tenants> tenants)
      : options_(options), capacity_(capacity), gate_(std::move(tenants), limits.metadata_bytes) {}
  void ReloadTenants();
  void ReloadCertificates();

  const IdentityOptions options_;
  const Capacity capacity_;
  Gate gate_;
  std::unique_ptr<TlsCertificates> certificates_;
  std::unique_ptr<FileWatch> watch_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_IDENTITY_H_
