// What the names in a request stand for: the model, or a fine-tune of it. Any thread.
#ifndef NIBBLE_SERVER_REQUEST_NAMES_H_
#define NIBBLE_SERVER_REQUEST_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "server/caller.h"
#include "server/served_model.h"
#include "server/translate.h"

namespace nibble::server {

// NOT_FOUND unless `name` is empty or the model's; `field` is the message's.
absl::Status CheckModelName(const char* field, const std::string& name, const ServedModel& model);

// Fills the adapter that a request asks for, and its lease where it is loaded. Clients that know models only name an
// adapter as the model. NOT_FOUND, said alike: there is no such adapter, or the caller may not use it.
// INVALID_ARGUMENT: no adapter can have that name. FAILED_PRECONDITION: it cannot be used as it is.
absl::Status FindNames(const std::string& model_name, const std::string& adapter, const Caller& caller,
                       const ServedModel& model, AdmittedRequest* admitted);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_REQUEST_NAMES_H_
