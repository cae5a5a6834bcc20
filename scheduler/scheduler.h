// Decides who runs in each step. Plan and Commit have no side effect outside the scheduler and its leases.
#ifndef NIBBLE_SCHEDULER_SCHEDULER_H_
#define NIBBLE_SCHEDULER_SCHEDULER_H_

#include <cstdint>

#include "scheduler/counters.h"
#include "scheduler/request.h"

namespace nibble::sched {

struct SchedulerOptions {
  int64_t step_tokens = 512;      // token budget of one step; decodes first, then prompt chunks
  int64_t max_sequences = 64;     // running at once
  int64_t max_queue = 1024;       // waiting requests
  int64_t max_queue_per_tenant = 256;
  int64_t max_queue_tokens = 1 << 22;  // prompt tokens of waiting requests
  Nanos retry_after = 1'000'000'000;   // hint given with RESOURCE_EXHAUSTED
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_SCHEDULER_H_
