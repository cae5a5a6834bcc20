// What runs a batch: no queue, no clock, at most one step in flight.
//
// Thread: one thread (the serving loop) calls everything. Ownership: spans and pointers in a StepPlan belong to the
// caller and must stay valid and unchanged from Launch until Await returns. Errors: none; whatever a request or a file
// can get wrong was proven at load or admission. A row whose logits are not finite is reported as `faulted` for its
// sequence alone, and so is one whose grammar leaves no token to draw.
#ifndef NIBBLE_ENGINE_ENGINE_H_
#define NIBBLE_ENGINE_ENGINE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/sampling/params.h"
#include "kvcache/page.h"

namespace nibble::engine {

namespace grammar {
class Matcher;
}

// A fine-tune that an engine has loaded. Immutable; owned by whoever loaded it, and in use while a step names it. Must
// not outlive the engine.
class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual int64_t bytes() const = 0;  // of memory
};

// What the sampler needs beside the logits. The draw is keyed by (seed, index), so it does not depend on the batch.
struct SampleRequest {
  const SamplingParams* params = nullptr;
  absl::Span<const int32_t> prompt;     // the request's prompt ids
  absl::Span<const int32_t> generated;  // ids generated so far, not yet including the one to sample
  absl::Span<const int32_t> banned;     // ids that must not be drawn now (end tokens before min_tokens)
  uint64_t seed = 0;                    // params->seed mixed with the choice index of n > 1
  // What the answer is held to; has read `generated`. The engine alone uses it from Launch until Await returns.
  // nullptr: any text will do.
  grammar::Matcher* matcher = nullptr;
  absl::Span<const int32_t> terminators = {};  // ids that end the answer: with a matcher, drawn only where it may end
};

// One sequence's share of one step: `tokens` run at positions [position, position + tokens.size()).
struct SequenceStep {
  absl::Span<const int32_t> tokens;
  int64_t position = 0;
  const Adapter* adapter = nullptr;  // nullptr: the model alone
  // Page table from position 0; covers position + tokens.size(). K and V of `tokens` are written into these pages;
  // positions below `position` must have been written by earlier steps or come from sealed pages.
  absl::Span<const kv::PageId> pages;
  // The slot of each page's raw form, or kv::kNoRawSlot; empty where the cache has none. Pages that the step's queries
  // read raw have one, but for pages that the step itself begins and nobody reads raw after it.
  absl::Span<const kv::RawSlot> raw_slots;
  // Logits are computed for the last `logit_rows` of `tokens` (0 for a prompt chunk that is not the last).
  int64_t logit_rows = 0;
  // Draws a token from the last row. REQUIRES: logit_rows >= 1.
  const SampleRequest* sample = nullptr;
  // Prompt logprobs: the id that follows each of the last `logit_rows` tokens, or empty. Where given, the result holds
  // one entry per id, with `prompt_logprobs_top` most likely ids beside it.
  absl::Span<const int32_t> targets;
  int32_t prompt_logprobs_top = 0;
  // If not null, receives the raw logits, [logit_rows, vocab_size].
  float* logits_out = nullptr;
};

struct StepPlan {
  std::vector<SequenceStep> sequences;
};

struct Logprobs {
  float logprob = 0.0f;           // of the sampled (or target) token
  std::vector<TokenLogprob> top;  // most likely first; ties: the lower id first
};

struct SequenceResult {
  bool faulted = false;  // a logit was NaN or infinite, or there was no token to draw; nothing else here is valid
  int32_t token = -1;    // the drawn id, or -1 where nothing was asked
  Logprobs logprobs;     // of `token`, where params->logprobs >= 0
  std::vector<Logprobs> targets;
};

struct StepResult {
  std::vector<SequenceResult> sequences;  // same order as the plan's
};

class Engine {
 public:
  virtual ~Engine() = default;

  // Starts one step. REQUIRES: no step in flight; total tokens <= max_step_tokens(); sequences <= max_sequences(); ids
  // below vocab_size(), pages and raw slots of cache_shape().
  virtual void Launch(const StepPlan& plan) = 0;
  // Waits for the step and returns its results, valid until the next Launch.
  virtual const StepResult& Await() = 0;

  virtual int64_t vocab_size() const = 0;
  virtual int64_t context_length() const = 0;  // tokens, prompt and generated together
  virtual kv::CacheShape cache_shape() const = 0;
  virtual int64_t max_step_tokens() const = 0;
  virtual int64_t max_sequences() const = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_ENGINE_H_
