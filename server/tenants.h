// The tenants of a daemon, as a file of proto/nibble/config/tenants.proto declares them. Immutable; any thread.
#ifndef NIBBLE_SERVER_TENANTS_H_
#define NIBBLE_SERVER_TENANTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "nibble/config/tenants.pb.h"
#include "server/caller.h"

namespace nibble::server {

// What shares are shares of.
struct Capacity {
  int64_t kv_pages = 0;
  int64_t queue = 0;  // requests that may wait
};

class Tenants {
 public:
  // INVALID_ARGUMENT names the file and the line, or the tenant and the field; no message holds a digest.
  static absl::StatusOr<std::shared_ptr<const Tenants>> Read(const std::string& path, const Capacity& capacity);
  static absl::StatusOr<std::shared_ptr<const Tenants>> Parse(const std::string& text, const std::string& path,
                                                              const Capacity& capacity);

  // Null: nobody's. The time depends on the key's length and the number of keys alone, not on how much of which agrees.
  const Caller* FindByKey(std::string_view key) const;
  // A verified certificate's subject (RFC 2253); null: nobody's.
  const Caller* FindBySubject(const std::string& subject) const;

  const std::vector<Caller>& callers() const { return callers_; }
  bool has_subjects() const { return !by_subject_.empty(); }
  // The text that they were read from.
  const std::string& source() const { return source_; }

 private:
  struct Key {
    std::string sha256;  // 64 lower-case hexadecimal digits
    size_t caller;       // in callers_
  };

  Tenants() = default;
  absl::Status Add(const config::Tenant& tenant, const Capacity& capacity);
  absl::Status AddCredentials(const config::Tenant& tenant);

  std::string source_;
  std::vector<Caller> callers_;
  std::vector<Key> keys_;
  absl::flat_hash_map<std::string, size_t> by_subject_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TENANTS_H_
