#include "server/tenants.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/weights/regular_file.h"
#include "engine/weights/sha256.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

constexpr uint64_t kLargestFileBytes = 16 << 20;
constexpr size_t kLongestNameBytes = 64;
constexpr size_t kDigestDigits = 64;
constexpr double kSmallestWeight = 0.001;
constexpr double kLargestWeight = 1000.0;
constexpr double kDefaultQueueShare = 0.25;

template <typename... Words>
absl::Status Invalid(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

// Keeps the first error, with its place.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    // What stands there instead of what is expected may be a key.
    const std::string expected = message.substr(0, message.find(", got"));
    if (text_.empty()) text_ = absl::StrCat(line + 1, ":", column + 1, ": ", expected);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

absl::Status CheckCount(const char* field, bool given, int64_t value) {
  if (given && value < 1) return Invalid("limits.", field, ": must be at least 1, is ", value);
  return absl::OkStatus();
}

// Written so that NaN fails.
absl::Status CheckShare(const char* field, bool given, double value) {
  if (given && !(value > 0.0 && value <= 1.0)) return Invalid("limits.", field, ": must be above 0 and at most 1");
  return absl::OkStatus();
}

absl::Status CheckLimits(const config::Limits& limits) {
  NIBBLE_RETURN_IF_ERROR(
      CheckCount("requests_per_minute", limits.has_requests_per_minute(), limits.requests_per_minute()));
  NIBBLE_RETURN_IF_ERROR(CheckCount("tokens_per_minute", limits.has_tokens_per_minute(), limits.tokens_per_minute()));
  NIBBLE_RETURN_IF_ERROR(
      CheckCount("concurrent_sequences", limits.has_concurrent_sequences(), limits.concurrent_sequences()));
  NIBBLE_RETURN_IF_ERROR(CheckShare("queue_share", limits.has_queue_share(), limits.queue_share()));
  return CheckShare("kv_share", limits.has_kv_share(), limits.kv_share());
}

bool IsDigest(const std::string& text) {
  return text.size() == kDigestDigits && std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
}

absl::Status CheckFields(const config::Tenant& tenant) {
  if (tenant.name().empty() || tenant.name().size() > kLongestNameBytes) {
    return Invalid("name: must have 1 to ", kLongestNameBytes, " bytes");
  }
  if (tenant.key_sha256().empty() && tenant.certificate_subjects().empty()) {
    return Invalid("key_sha256: a tenant needs a key or a certificate subject");
  }
  for (const std::string& digest : tenant.key_sha256()) {
    if (!IsDigest(digest)) return Invalid("key_sha256: must be the SHA-256 of a key, ", kDigestDigits, " hex digits");
  }
  const bool weight_fits = tenant.weight() >= kSmallestWeight && tenant.weight() <= kLargestWeight;
  if (tenant.has_weight() && !weight_fits) {
    return Invalid("weight: must be within [", kSmallestWeight, ", ", kLargestWeight, "]");
  }
  return CheckLimits(tenant.limits());
}

int64_t ShareOf(double share, int64_t whole) {
  return std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(whole)));
}

sched::TenantTerms TermsOf(const config::Tenant& tenant, const Capacity& capacity) {
  const config::Limits& limits = tenant.limits();
  sched::TenantTerms terms;
  if (tenant.has_weight()) terms.weight = tenant.weight();
  if (limits.has_requests_per_minute()) terms.requests_per_minute = limits.requests_per_minute();
  if (limits.has_tokens_per_minute()) terms.tokens_per_minute = limits.tokens_per_minute();
  if (limits.has_concurrent_sequences()) terms.max_sequences = limits.concurrent_sequences();
  if (limits.has_kv_share()) terms.max_pages = ShareOf(limits.kv_share(), capacity.kv_pages);
  terms.max_waiting = ShareOf(limits.has_queue_share() ? limits.queue_share() : kDefaultQueueShare, capacity.queue);
  terms.pool = tenant.pool();
  return terms;
}

Caller CallerOf(const config::Tenant& tenant, const Capacity& capacity) {
  Caller caller{.tenant = tenant.name(), .admin = tenant.admin(), .adapters = {}, .terms = TermsOf(tenant, capacity)};
  const bool all = std::count(tenant.adapters().begin(), tenant.adapters().end(), "*") > 0;
  if (!all) caller.adapters.emplace(tenant.adapters().begin(), tenant.adapters().end());
  return caller;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tenants>> Tenants::Read(const std::string& path, const Capacity& capacity) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, engine::ReadFile(path, kLargestFileBytes));
  return Parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), path, capacity);
}

absl::StatusOr<std::shared_ptr<const Tenants>> Tenants::Parse(const std::string& text, const std::string& path,
                                                              const Capacity& capacity) {
  config::Tenants file;
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, &file)) return Invalid(path, ":", error.text());
  if (file.tenants().empty()) return Invalid(path, ": tenants: none, so nobody could use the daemon");
  std::shared_ptr<Tenants> tenants(new Tenants);
  tenants->source_ = text;
  for (int i = 0; i < file.tenants_size(); ++i) {
    const absl::Status status = tenants->Add(file.tenants(i), capacity);
    if (!status.ok()) return Invalid(path, ": tenants[", i, "].", status.message());
  }
  return tenants;
}

absl::Status Tenants::Add(const config::Tenant& tenant, const Capacity& capacity) {
  NIBBLE_RETURN_IF_ERROR(CheckFields(tenant));
  for (const Caller& other : callers_) {
    if (other.tenant == tenant.name()) return Invalid("name: another tenant has it");
  }
  NIBBLE_RETURN_IF_ERROR(AddCredentials(tenant));
  callers_.push_back(CallerOf(tenant, capacity));
  return absl::OkStatus();
}

// Of the caller that is added next.
absl::Status Tenants::AddCredentials(const config::Tenant& tenant) {
  for (const std::string& text : tenant.key_sha256()) {
    const std::string digest = absl::AsciiStrToLower(text);
    for (const Key& other : keys_) {
      if (other.sha256 == digest) return Invalid("key_sha256: another key has this digest");
    }
    keys_.push_back({digest, callers_.size()});
  }
  for (const std::string& subject : tenant.certificate_subjects()) {
    if (subject.empty()) return Invalid("certificate_subjects: empty");
    if (!by_subject_.emplace(subject, callers_.size()).second) {
      return Invalid("certificate_subjects: given twice");
    }
  }
  return absl::OkStatus();
}

const Caller* Tenants::FindByKey(std::string_view key) const {
  const std::string digest = engine::Sha256Hex(key);
  const Caller* found = nullptr;
  for (const Key& known : keys_) {  // all of them, whatever was found
    if (CRYPTO_memcmp(known.sha256.data(), digest.data(), kDigestDigits) == 0) found = &callers_[known.caller];
  }
  return found;
}

const Caller* Tenants::FindBySubject(const std::string& subject) const {
  const auto found = by_subject_.find(subject);
  return found == by_subject_.end() ? nullptr : &callers_[found->second];
}

}  // namespace nibble::server
