// A request as the scheduler knows it, already translated, tokenized and proven by admission.
#ifndef NIBBLE_SCHEDULER_REQUEST_H_
#define NIBBLE_SCHEDULER_REQUEST_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/sampling/params.h"
#include "scheduler/tenant_terms.h"

namespace nibble::engine::grammar {
class Grammar;
}

namespace nibble::sched {

// Monotonic time in nanoseconds, passed in by the caller: nothing below `server` reads a clock.
using Nanos = int64_t;
inline constexpr Nanos kNoDeadline = std::numeric_limits<Nanos>::max();

enum class FinishReason { kStop, kLength, kCancelled, kDeadline, kError };

// Why a request was cancelled, for the counters.
enum class CancelCause { kClient, kDeadline, kSlowReader, kDrain };

struct Stopping {
  int32_t max_tokens = 0;  // >= 1; prompt + max_tokens <= context
  int32_t min_tokens = 0;
  std::vector<int32_t> stop_token_ids;  // end the answer; the id itself is not part of it
  std::vector<int32_t> end_ids;         // the model's end-of-generation ids, or empty with ignore_eos
};

struct Request {
  std::string id;      // unique among the tenant's live requests
  std::string tenant;  // also salts the prefix index, unless the terms name a pool
  TenantTerms terms;
  std::shared_ptr<const engine::Adapter> adapter;  // loaded by the engine; nullptr: the model alone
  std::string adapter_id;                          // tells one adapter from another: part of the prefix index's salt
  std::vector<int32_t> prompt;                     // at least one
  engine::SamplingParams sampling;
  std::shared_ptr<const engine::grammar::Grammar> grammar;  // what the answer is held to; nullptr: nothing
  int32_t num_choices = 1;                                  // n: choices run as sequences that share the prompt's pages
  Stopping stopping;
  int32_t priority = 0;  // higher runs first
  Nanos arrival = 0;
  Nanos deadline = kNoDeadline;
  int32_t prompt_logprobs = -1;  // -1: none; k: for every prompt token after the first, and the k most likely ones'
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix index at the first start; 0 where a pool shares it
  int64_t generated_tokens = 0;
  Nanos queue_time = 0;        // arrival to first scheduled
  Nanos first_token_time = 0;  // arrival to first token; 0 where there was none
};

struct Finish {
  FinishReason reason = FinishReason::kStop;
  int32_t stop_token_id = -1;  // the stop or end id that ended it, if one did
  Usage usage;
};

// Receives one request's tokens. Every method is called on the loop thread and must return at once: it may detokenize,
// match stop strings and append to a queue, never wait. The scheduler owns no sink; a sink must outlive OnFinish of
// every choice. For each choice OnFinish is called exactly once and nothing after it.
class TokenSink {
 public:
  enum class Verdict {
    kContinue,
    kStop,   // a stop string matched: the choice ends with kStop
    kPause,  // the reader is slow: generate no more until Resume()
  };
  virtual ~TokenSink() = default;
  // One more token of choice `index` (0 .. n-1). `logprobs` is meaningful where the request asked for it.
  virtual Verdict OnToken(int index, int32_t token, const engine::Logprobs& logprobs) = 0;
  // Logprobs of prompt tokens [first, first + targets.size()), in order, before any token of choice 0. A slice that
  // ran before a preemption is not repeated.
  virtual void OnPromptLogprobs(int64_t first, absl::Span<const engine::Logprobs> targets) = 0;
  virtual void OnFinish(int index, const Finish& finish) = 0;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_REQUEST_H_
