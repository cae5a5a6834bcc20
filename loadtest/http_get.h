// One plain GET.
#ifndef NIBBLE_LOADTEST_HTTP_GET_H_
#define NIBBLE_LOADTEST_HTTP_GET_H_

#include <chrono>
#include <string>

#include "absl/status/statusor.h"

namespace nibble::loadtest {

// Blocks. `key`: goes along as `authorization: Bearer KEY`, where not empty. The body; UNAVAILABLE, naming the URL, for
// anything but an answer with a status below 400 in time.
absl::StatusOr<std::string> HttpGet(const std::string& url, std::chrono::milliseconds timeout,
                                    const std::string& key = "");

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_HTTP_GET_H_
