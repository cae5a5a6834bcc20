#include "server/gate.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"
#include "server/access.h"

namespace nibble::server {
namespace {

constexpr absl::string_view kBearer = "Bearer ";

absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

// gRPC's own limit is one of each frame, and a header block may have any number of them.
absl::Status CheckMetadata(const grpc::ServerContextBase& context, int64_t limit) {
  constexpr size_t kFieldOverhead = 32;  // RFC 9113, 6.5.2
  size_t bytes = 0;
  for (const auto& [name, value] : context.client_metadata()) bytes += name.size() + value.size() + kFieldOverhead;
  if (bytes <= static_cast<size_t>(limit)) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("metadata: more than ", limit, " bytes"));
}

// Every key that was sent. An `authorization` of another scheme counts as a wrong one.
std::vector<absl::string_view> KeysOf(const grpc::ServerContextBase& context) {
  std::vector<absl::string_view> keys;
  for (const auto& [name, value] : context.client_metadata()) {
    if (View(name) == "x-api-key") keys.push_back(View(value));
    if (View(name) != "authorization") continue;
    const bool bearer = absl::StartsWithIgnoreCase(View(value), kBearer);
    keys.push_back(bearer ? View(value).substr(kBearer.size()) : absl::string_view());
  }
  return keys;
}

// Of a certificate that the handshake has verified: no other kind is asked for (tls_credentials.h).
std::optional<std::string> SubjectOf(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr) return std::nullopt;
  const std::vector<grpc::string_ref> subjects = auth->FindPropertyValues(GRPC_X509_SUBJECT_PROPERTY_NAME);
  if (subjects.size() != 1) return std::nullopt;
  return std::string(View(subjects[0]));
}

// A key goes before the certificate, which may be a gateway's that passes on its clients' keys.
const Caller* Find(const Tenants& tenants, const grpc::ServerContextBase& context) {
  const std::vector<absl::string_view> keys = KeysOf(context);
  if (keys.size() == 1) return tenants.FindByKey({keys[0].data(), keys[0].size()});
  if (keys.size() > 1) return nullptr;
  const std::optional<std::string> subject = SubjectOf(context);
  return subject.has_value() ? tenants.FindBySubject(*subject) : nullptr;
}

absl::StatusOr<Caller> Authenticate(const Tenants* tenants, const grpc::ServerContextBase& context) {
  if (tenants == nullptr) return Caller();
  if (const Caller* caller = Find(*tenants, context)) return *caller;
  return absl::UnauthenticatedError("no valid key or client certificate");
}

bool Permits(std::optional<Access> access, bool anonymous, const Caller& caller) {
  if (!access.has_value()) return false;
  switch (*access) {
    case Access::kOpen:
    case Access::kTenant:
      return true;
    case Access::kOperator:
      return anonymous || caller.admin;
    case Access::kAdmin:
      return caller.admin;
  }
  return false;
}

}  // namespace

bool Gate::Replace(std::shared_ptr<const Tenants> tenants) {
  absl::MutexLock lock(&mu_);
  NIBBLE_CHECK(tenants != nullptr && tenants_ != nullptr);
  if (tenants->source() == tenants_->source()) return false;
  tenants_.swap(tenants);
  return true;
}

std::shared_ptr<const Tenants> Gate::tenants() const {
  absl::MutexLock lock(&mu_);
  return tenants_;
}

absl::StatusOr<Caller> Gate::Enter(std::string_view method, const grpc::ServerContextBase& context) const {
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(context, metadata_bytes_));
  const std::optional<Access> access = AccessTo(method);
  if (access == Access::kOpen) return Caller();
  const std::shared_ptr<const Tenants> tenants = this->tenants();
  NIBBLE_ASSIGN_OR_RETURN(Caller caller, Authenticate(tenants.get(), context));
  if (!Permits(access, tenants == nullptr, caller)) {
    return absl::PermissionDeniedError("this method is not for this caller");
  }
  return caller;
}

}  // namespace nibble::server
