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

  // Initialized, so that a list of the first few fields is whole.
  std::string adapter{};  // empty: the model itself
  std::string tenant{};   // a name for the figures; never sent
  std::string key{};      // what the tenant proves itself with, as a bearer token; empty: nothing

  int64_t stall_after = -1;                 // the client stops reading once it has this many output tokens; -1: never
  std::chrono::milliseconds stall_time{0};  // and then reads on

  int64_t follows = -1;  // the request before it in a conversation: it is due once that one has ended
  std::chrono::milliseconds think_time{0};  // and this much later
};

// A stalled reader's answer is kStalled whether or not the server had the patience.
enum class Outcome { kCompleted, kFailed, kCancelled, kStalled };

// Written by the client on one thread at a time; whole once the client has called `done`.
struct Record {
  std::string adapter;  // the request's
  std::string tenant;   // the request's
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
