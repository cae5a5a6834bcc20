// SHA-256 of bytes that come in pieces (OpenSSL's).
#ifndef NIBBLE_ENGINE_WEIGHTS_SHA256_H_
#define NIBBLE_ENGINE_WEIGHTS_SHA256_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"

struct evp_md_ctx_st;

namespace nibble::engine {

class Sha256 {
 public:
  Sha256();

  void Add(absl::Span<const std::byte> bytes);
  // Of all bytes so far, in lower-case hex; more may be added afterwards.
  std::string Hex() const;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

// Of bytes, or of a text, that are there as a whole; as Hex().
std::string Sha256Hex(absl::Span<const std::byte> bytes);
std::string Sha256Hex(std::string_view text);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_SHA256_H_
