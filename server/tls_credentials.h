// TLS of the gRPC port with certificates that may be replaced while it serves: connections that are there keep theirs,
// new ones get the newest. TLS 1.2 and 1.3. Where there is a client CA, a client without a certificate of it gets no
// further than the handshake.
#ifndef NIBBLE_SERVER_TLS_CREDENTIALS_H_
#define NIBBLE_SERVER_TLS_CREDENTIALS_H_

#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/tls_files.h"

namespace nibble::server {

// Of one port. Any thread.
class TlsCertificates {
 public:
  explicit TlsCertificates(TlsPems pems) : pems_(std::move(pems)) {}

  // REQUIRES: a client CA in both, or in neither. False: they are those that it has.
  bool Replace(TlsPems pems);
  // For one port, once. The certificates must outlive the server.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials();

 private:
  // gRPC asks before each handshake.
  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config);
  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config);

  absl::Mutex mu_;
  TlsPems pems_ ABSL_GUARDED_BY(mu_);
  bool fetched_ ABSL_GUARDED_BY(mu_) = false;  // gRPC has these
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TLS_CREDENTIALS_H_
