// Admission speaks of native fields; a client of another protocol is to read the names of its own.
#ifndef NIBBLE_SERVER_FIELD_NAMES_H_
#define NIBBLE_SERVER_FIELD_NAMES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nibble::server {

struct FieldName {
  absl::string_view native, own;  // beginnings of messages
};

// `status` with the first name that its message begins with put into the protocol's terms.
absl::Status InTermsOf(absl::Span<const FieldName> names, const absl::Status& status);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_FIELD_NAMES_H_
