#include "server/field_names.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace nibble::server {

absl::Status InTermsOf(absl::Span<const FieldName> names, const absl::Status& status) {
  absl::string_view message = status.message();
  for (const FieldName& name : names) {
    if (absl::ConsumePrefix(&message, name.native)) {
      return absl::Status(status.code(), absl::StrCat(name.own, message));
    }
  }
  return status;
}

}  // namespace nibble::server
