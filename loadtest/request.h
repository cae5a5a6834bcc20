// One request of a load test, and what was seen of its answer.
#ifndef NIBBLE_LOADTEST_REQUEST_H_
#define NIBBLE_LOADTEST_REQUEST_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nibble::loadtest {

using Clock = std::chrono::steady_clock;

struct Request {
  std::vector<int32_t> prompt;  // token ids
  int64_t output_tokens = 0;    // exactly this many: sent with temperature 0 and ignore_eos
  int64_t cancel_after = -1;    // the client hangs up once it has this many output tokens; -1: never
  // An answer that is not whole by then has failed.
  std::chrono::milliseconds timeout = std::chrono::minutes(15);
};

enum class Outcome { kCompleted, kFailed, kCancelled };

// Written by the client on one thread at a time; whole once the client has called `done`.
struct Record {
  Clock::time_point scheduled;
  Clock::time_point sent;
  std::vector<Clock::time_point> chunks;  // one per message that carried output
  int64_t prompt_tokens = 0;              // as the server counted them, or as sent where it does not say
  int64_t output_tokens = 0;
  std::optional<double> queue_ms;  // how long the server says that the request waited there before it ran
  Outcome outcome = Outcome::kFailed;
  std::string status;  // why it failed, in words that other requests share: a status, not a message
  std::string error;   // the same in full
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_REQUEST_H_
