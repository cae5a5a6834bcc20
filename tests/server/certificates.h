// Certificates made on the spot, so that no test has one that expires.
#ifndef NIBBLE_TESTS_SERVER_CERTIFICATES_H_
#define NIBBLE_TESTS_SERVER_CERTIFICATES_H_

#include <string>

namespace nibble::server {

struct PemPair {
  std::string certificate;
  std::string key;
};

// A CA of its own.
class TestCa {
 public:
  explicit TestCa(const std::string& name);

  const std::string& pem() const { return self_.certificate; }
  // For CN=`name`, and for the address 127.0.0.1; valid from an hour ago until `hours` from now.
  PemPair Issue(const std::string& name, int hours = 24) const;

 private:
  PemPair self_;
};

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_CERTIFICATES_H_
