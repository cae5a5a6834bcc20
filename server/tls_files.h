// Certificates and keys of the gRPC port, as files and as what is in them.
#ifndef NIBBLE_SERVER_TLS_FILES_H_
#define NIBBLE_SERVER_TLS_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nibble::server {

// Paths of PEM files. No certificate: no TLS. No client CA: clients need no certificate.
struct TlsFiles {
  std::string certificate;  // the server's, then those that lead to its CA
  std::string key;
  std::string client_ca;  // CAs whose certificates clients must have

  bool enabled() const { return !certificate.empty(); }
  std::vector<std::string> paths() const;
};

// Their bytes, found to be good.
struct TlsPems {
  std::string certificate;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsPems&) const = default;
};

// INVALID_ARGUMENT: what is in a file is no certificate or key, the key is not the certificate's, or the certificate is
// not valid today. FAILED_PRECONDITION: everyone on the machine may read the key. Errors name the file. Never asks for
// a password. REQUIRES: files.enabled().
absl::StatusOr<TlsPems> ReadTlsFiles(const TlsFiles& files);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TLS_FILES_H_
