// GoogleTest matchers for absl::Status; Debian's Abseil ships none.
#ifndef NIBBLE_TESTS_BASE_STATUS_MATCHERS_H_
#define NIBBLE_TESTS_BASE_STATUS_MATCHERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"

namespace nibble {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

// EXPECT_THAT(Parse(bytes), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("n_tensors")));
MATCHER_P2(StatusIs, code, message, "has the status code and a message that matches") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code && testing::Matches(message)(std::string(StatusOf(arg).message()));
}

}  // namespace nibble

#endif  // NIBBLE_TESTS_BASE_STATUS_MATCHERS_H_
