#include "server/request_names.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

// What the caller may not use does not exist for it.
absl::Status FindAdapter(const std::string& name, const Caller& caller, const ServedModel& model,
                         AdmittedRequest* admitted) {
  if (model.adapters == nullptr || !caller.MayUseAdapter(name)) {
    return absl::NotFoundError("adapter: no such adapter");
  }
  NIBBLE_ASSIGN_OR_RETURN(std::optional<AdapterLease> lease, model.adapters->TryAcquire(name));
  admitted->adapter = name;
  if (lease.has_value()) admitted->adapter_lease = *std::move(lease);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckModelName(const char* field, const std::string& name, const ServedModel& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(field, ": no such model"));
}

absl::Status FindNames(const std::string& model_name, const std::string& adapter, const Caller& caller,
                       const ServedModel& model, AdmittedRequest* admitted) {
  const absl::Status named_model = CheckModelName("model", model_name, model);
  if (!adapter.empty()) {
    NIBBLE_RETURN_IF_ERROR(named_model);
    if (IsAdapterName(adapter)) return FindAdapter(adapter, caller, model, admitted);
    return absl::InvalidArgumentError(
        absl::StrCat("adapter: is not 1 to ", kMaxAdapterName, " letters, digits, '.', '_' and '-', the first no '.'"));
  }
  if (named_model.ok() || !IsAdapterName(model_name)) return named_model;
  const absl::Status as_adapter = FindAdapter(model_name, caller, model, admitted);
  return absl::IsNotFound(as_adapter) ? named_model : as_adapter;
}

}  // namespace nibble::server
