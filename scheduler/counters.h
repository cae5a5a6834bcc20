// What the scheduler counts, as plain numbers; the server turns them into metrics. All monotone except the gauges.
#ifndef NIBBLE_SCHEDULER_COUNTERS_H_
#define NIBBLE_SCHEDULER_COUNTERS_H_

#include <array>
#include <cstdint>

namespace nibble::sched {

struct Counters {
  // Gauges.
  int64_t sequences_running = 0;
  int64_t sequences_waiting = 0;
  int64_t sequences_paused = 0;
  int64_t tokens_waiting = 0;  // uncomputed prompt tokens of waiting requests
  int64_t pages_total = 0;
  int64_t pages_free = 0;    // held by nobody and not indexed
  int64_t pages_cached = 0;  // held by the prefix index alone: free on demand
  int64_t raw_slots_total = 0;
  int64_t raw_slots_free = 0;
  int64_t raw_slots_cached = 0;  // twins that nobody reads: free on demand
  // Counters.
  int64_t preemptions = 0;
  int64_t recomputed_tokens = 0;
  int64_t prefix_queries_tokens = 0;
  int64_t prefix_hits_tokens = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t steps = 0;
  int64_t step_tokens = 0;
  std::array<int64_t, 5> finished = {};   // requests, by FinishReason
  std::array<int64_t, 4> cancelled = {};  // requests, by CancelCause
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_COUNTERS_H_
