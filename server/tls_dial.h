// Whether a TLS port still takes connections, found out without a certificate that it would accept.
#ifndef NIBBLE_SERVER_TLS_DIAL_H_
#define NIBBLE_SERVER_TLS_DIAL_H_

#include <string>

#include "absl/time/time.h"

namespace nibble::server {

// Connects to `address` ("HOST:PORT") and begins a handshake; true if the port answers anything within `timeout`.
// Blocks for so long at most, but for the resolution of a host's name.
bool AnswersTls(const std::string& address, absl::Duration timeout);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TLS_DIAL_H_
