#include "server/identity.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "server/log.h"

namespace nibble::server {
namespace {

// Null where there is no file.
absl::StatusOr<std::shared_ptr<const Tenants>> ReadTenants(const IdentityOptions& options, const Capacity& capacity) {
  if (options.tenants.empty()) return nullptr;
  NIBBLE_ASSIGN_OR_RETURN(std::shared_ptr<const Tenants> tenants, Tenants::Read(options.tenants, capacity));
  if (tenants->has_subjects() && options.tls.client_ca.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.tenants, ": certificate_subjects: no client CA is given that would verify them"));
  }
  return tenants;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Identity>> Identity::Load(const IdentityOptions& options, const Capacity& capacity,
                                                         const Limits& limits) {
  NIBBLE_ASSIGN_OR_RETURN(std::shared_ptr<const Tenants> tenants, ReadTenants(options, capacity));
  std::unique_ptr<Identity> identity(new Identity(options, capacity, limits, std::move(tenants)));
  if (options.tls.enabled()) {
    NIBBLE_ASSIGN_OR_RETURN(TlsPems pems, ReadTlsFiles(options.tls));
    identity->certificates_ = std::make_unique<TlsCertificates>(std::move(pems));
  }
  return identity;
}

absl::Status Identity::Watch() {
  std::vector<std::string> paths = options_.tls.enabled() ? options_.tls.paths() : std::vector<std::string>();
  if (!options_.tenants.empty()) paths.push_back(options_.tenants);
  if (paths.empty()) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(watch_, FileWatch::Start(paths, [this] {
                            if (!options_.tenants.empty()) ReloadTenants();
                            if (certificates_ != nullptr) ReloadCertificates();
                          }));
  return absl::OkStatus();
}

void Identity::ReloadTenants() {
  absl::StatusOr<std::shared_ptr<const Tenants>> tenants = ReadTenants(options_, capacity_);
  if (!tenants.ok()) return LogError("tenants not reloaded", {{"reason", tenants.status().message()}});
  const size_t count = (*tenants)->callers().size();
  if (gate_.Replace(*std::move(tenants))) LogInfo("tenants reloaded", {{"tenants", count}});
}

void Identity::ReloadCertificates() {
  absl::StatusOr<TlsPems> pems = ReadTlsFiles(options_.tls);
  if (!pems.ok()) return LogError("certificates not reloaded", {{"reason", pems.status().message()}});
  if (certificates_->Replace(*std::move(pems))) LogInfo("certificates reloaded");
}

}  // namespace nibble::server
