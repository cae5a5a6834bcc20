#include "server/tls_credentials.h"

#include <grpc/grpc.h>

#include <string>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::server {
namespace {

// gRPC's C++ classes have no credentials that fetch certificates; its C interface has.
class PortCredentials final : public grpc::ServerCredentials {
 public:
  explicit PortCredentials(grpc_ssl_server_credentials_options* options)
      : credentials_(grpc_ssl_server_credentials_create_with_options(options)) {}
  ~PortCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    NIBBLE_CHECK(false);  // who calls is found by the gate
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

bool TlsCertificates::Replace(TlsPems pems) {
  absl::MutexLock lock(&mu_);
  NIBBLE_CHECK(pems.client_ca.empty() == pems_.client_ca.empty());
  if (pems == pems_) return false;
  pems_ = std::move(pems);
  fetched_ = false;
  return true;
}

std::shared_ptr<grpc::ServerCredentials> TlsCertificates::MakeCredentials() {
  absl::MutexLock lock(&mu_);
  const auto request = pems_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                               : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  grpc_ssl_server_credentials_options* options =
      grpc_ssl_server_credentials_create_options_using_config_fetcher(request, Fetch, this);
  return std::make_shared<PortCredentials>(options);
}

grpc_ssl_certificate_config_reload_status TlsCertificates::Fetch(void* self,
                                                                 grpc_ssl_server_certificate_config** config) {
  return static_cast<TlsCertificates*>(self)->Fetch(config);
}

grpc_ssl_certificate_config_reload_status TlsCertificates::Fetch(grpc_ssl_server_certificate_config** config) {
  absl::MutexLock lock(&mu_);
  if (std::exchange(fetched_, true)) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {pems_.key.c_str(), pems_.certificate.c_str()};
  // gRPC insists on a CA even where it asks no client for a certificate.
  const std::string& client_ca = pems_.client_ca.empty() ? pems_.certificate : pems_.client_ca;
  *config = grpc_ssl_server_certificate_config_create(client_ca.c_str(), &pair, /*num_key_cert_pairs=*/1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace nibble::server
