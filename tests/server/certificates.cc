#include "tests/server/certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

#include "kvcache/base/check.h"

namespace nibble::server {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

std::string TextOf(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

PemPair ToPem(X509* certificate, EVP_PKEY* key) {
  BIO* const certificate_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(certificate_bio, certificate);
  BIO* const key_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(key_bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  return {TextOf(certificate_bio), TextOf(key_bio)};
}

void AddExtension(X509* certificate, int id, const char* value) {
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
  NIBBLE_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Unsigned, without issuer.
Certificate NewCertificate(const std::string& name, EVP_PKEY* key, int hours) {
  static long serial = 1;
  Certificate certificate(X509_new(), X509_free);
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600L * hours);
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()), -1, 0);
  return certificate;
}

}  // namespace

TestCa::TestCa(const std::string& name) {
  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const Certificate certificate = NewCertificate(name, key.get(), 24);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get()));
  AddExtension(certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  self_ = ToPem(certificate.get(), key.get());
}

PemPair TestCa::Issue(const std::string& name, int hours) const {
  BIO* const own_bio = BIO_new_mem_buf(self_.certificate.data(), -1);
  const Certificate own(PEM_read_bio_X509(own_bio, nullptr, nullptr, nullptr), X509_free);
  BIO_free(own_bio);
  BIO* const own_key_bio = BIO_new_mem_buf(self_.key.data(), -1);
  const Key own_key(PEM_read_bio_PrivateKey(own_key_bio, nullptr, nullptr, nullptr), EVP_PKEY_free);
  BIO_free(own_key_bio);
  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const Certificate certificate = NewCertificate(name, key.get(), hours);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(own.get()));
  AddExtension(certificate.get(), NID_subject_alt_name, "IP:127.0.0.1");
  X509_sign(certificate.get(), own_key.get(), EVP_sha256());
  return ToPem(certificate.get(), key.get());
}

}  // namespace nibble::server
