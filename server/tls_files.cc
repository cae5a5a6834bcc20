#include "server/tls_files.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstddef>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/weights/regular_file.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

constexpr uint64_t kLargestFileBytes = 1 << 20;

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

template <typename... Words>
absl::Status Invalid(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, engine::ReadFile(path, kLargestFileBytes));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Bio OpenPem(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// OpenSSL would ask on the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

// The first certificate; null: there is none.
Certificate FirstCertificate(const std::string& pem) {
  return Certificate(PEM_read_bio_X509(OpenPem(pem).get(), nullptr, NoPassword, nullptr));
}

absl::Status CheckPrivate(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, "cannot stat " + path);
  if ((info.st_mode & (S_IROTH | S_IWOTH)) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(path + ": everyone may read the key; take the rights of others away (chmod o=)");
}

absl::Status CheckValidToday(const X509* certificate, const std::string& path) {
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) return Invalid(path, ": is not valid yet");
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) return Invalid(path, ": has expired");
  return absl::OkStatus();
}

absl::Status CheckPair(const TlsPems& pems, const TlsFiles& files) {
  const Certificate certificate = FirstCertificate(pems.certificate);
  if (certificate == nullptr) return Invalid(files.certificate, ": no certificate in PEM form");
  NIBBLE_RETURN_IF_ERROR(CheckValidToday(certificate.get(), files.certificate));
  const PrivateKey key(PEM_read_bio_PrivateKey(OpenPem(pems.key).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return Invalid(files.key, ": no private key in PEM form, or one with a password");
  if (X509_check_private_key(certificate.get(), key.get()) == 1) return absl::OkStatus();
  return Invalid(files.key, ": is not the key of ", files.certificate);
}

}  // namespace

std::vector<std::string> TlsFiles::paths() const {
  std::vector<std::string> paths;
  for (const std::string* path : {&certificate, &key, &client_ca}) {
    if (!path->empty()) paths.push_back(*path);
  }
  return paths;
}

absl::StatusOr<TlsPems> ReadTlsFiles(const TlsFiles& files) {
  TlsPems pems;
  NIBBLE_RETURN_IF_ERROR(CheckPrivate(files.key));
  NIBBLE_ASSIGN_OR_RETURN(pems.key, ReadText(files.key));
  NIBBLE_ASSIGN_OR_RETURN(pems.certificate, ReadText(files.certificate));
  NIBBLE_RETURN_IF_ERROR(CheckPair(pems, files));
  if (files.client_ca.empty()) return pems;
  NIBBLE_ASSIGN_OR_RETURN(pems.client_ca, ReadText(files.client_ca));
  if (FirstCertificate(pems.client_ca) == nullptr) return Invalid(files.client_ca, ": no certificate in PEM form");
  return pems;
}

}  // namespace nibble::server
