// What an operator may set, and what the engine sets.
#ifndef NIBBLE_SCHEDULER_OPTIONS_H_
#define NIBBLE_SCHEDULER_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "kvcache/page.h"
#include "kvcache/siphash.h"
#include "scheduler/request.h"

namespace nibble::sched {

struct SchedulerOptions {
  int64_t step_tokens = 512;   // token budget of one step; decodes first, then prompt chunks
  int64_t max_sequences = 64;  // running at once, paused ones not counted
  int64_t max_queue = 1024;    // waiting requests
  int64_t max_queue_per_tenant = 256;
  int64_t max_started =
      1024;  // requests that run, are preempted or paused; more than max_sequences because readers stall
  int64_t max_queue_tokens = 1 << 22;  // prompt tokens of waiting requests
  Nanos retry_after = 1'000'000'000;   // hint given with RESOURCE_EXHAUSTED
  // Pages that a start leaves untouched, so that the running ones can grow. Not asked for where nothing else runs.
  int64_t watermark_pages = 8;
  int64_t prompt_logprob_rows = 128;  // prompt tokens per step and request whose logits are computed
  // Model and KV codec; part of the key of every shared page.
  std::string cache_salt;
  // Key of the prefix index; drawn from the system's entropy where not given. Given only in tests.
  std::optional<kv::Hash128> prefix_key;
};

// What the engine can do.
struct Limits {
  int64_t vocab_size = 0;
  int64_t context_length = 0;
  kv::CacheShape cache;
  int64_t max_step_tokens = 0;
  int64_t max_sequences = 0;
};

inline Limits LimitsOf(const engine::Engine& engine) {
  return {engine.vocab_size(), engine.context_length(), engine.cache_shape(), engine.max_step_tokens(),
          engine.max_sequences()};
}

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_OPTIONS_H_
