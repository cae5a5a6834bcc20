// The loop thread: drains messages, plans, runs the engine, commits. It owns all mutable serving state; everyone else
// sends it messages and never blocks it (law 5).
//
// Submit decides at once, on the caller's thread: the scheduler's Admission is synchronized and counts what waits. What
// it accepts goes to the mailbox; messages of one thread are applied in the order in which they were sent, between
// steps. With nothing to run the thread sleeps; only while live requests cannot run (all paused) but have deadlines
// does it look at the clock every 20 ms.
#ifndef NIBBLE_SCHEDULER_SERVING_LOOP_H_
#define NIBBLE_SCHEDULER_SERVING_LOOP_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"

namespace nibble::sched {

class ServingLoop {
 public:
  // `engine` and `clock` (monotonic; any thread) must outlive the loop. Nothing runs before Start().
  ServingLoop(engine::Engine* engine, const SchedulerOptions& options, std::function<Nanos()> clock);
  // Stops as Stop() does.
  ~ServingLoop();
  ServingLoop(const ServingLoop&) = delete;
  ServingLoop& operator=(const ServingLoop&) = delete;

  void Start();
  // Any thread but the loop's. Ends every live request with kCancelled (cause kDrain) and joins the thread; all of that
  // is done when it returns, whoever else called it.
  void Stop();

  // Any thread. Hands the request over. Fails at once, keeping nothing: RESOURCE_EXHAUSTED (queue full, by count or by
  // tokens; RetryAfter of admission.h gives the hint), ALREADY_EXISTS (id live within the tenant), INVALID_ARGUMENT (a
  // field that Validate refuses, or more pages than the pool has), UNAVAILABLE (draining or stopped). On OK, `sink`
  // gets exactly one OnFinish per choice. An id is free again when its last OnFinish is called. A sink names its
  // request below: it hears one live request at a time.
  absl::Status Submit(Request request, TokenSink* sink);
  // Any thread. Whether Submit would take one more request of the tenant now, whatever is in it; never waits.
  absl::Status CheckRoom(const std::string& tenant, const TenantTerms& terms) const;
  // Any thread that keeps `sink` alive during the call. Ends all choices of its request, with kDeadline for that cause,
  // else with kCancelled; ignored where the request has ended, even if its id is in use again. Pages are free within
  // one step.
  void Cancel(const TokenSink* sink, CancelCause cause);
  // As Cancel. The reader of a paused request has caught up.
  void Resume(const TokenSink* sink);
  // Any thread. Frees the pages that only the prefix index keeps.
  void FlushIndex();
  // Any thread. The watcher hears what the prefix index has, and each change of it, until UnwatchIndex or OnClosed.
  // UNAVAILABLE where the server drains or has stopped.
  absl::Status WatchIndex(std::shared_ptr<IndexWatcher> watcher);
  // Any thread. Calls that are under way may still come.
  void UnwatchIndex(const IndexWatcher* watcher);
  // Any thread. Submit refuses from now on, watches of the index end; live requests go on.
  void BeginDrain();

  // Any thread; never waits for a step. A copy of the counters as of the last step.
  Counters Snapshot() const;
  // Any thread; never waits for a step. When the loop last made progress, and whether it has work to do: the liveness
  // heartbeat. Paused requests are no work; mail not yet read is.
  struct Heartbeat {
    Nanos last_step = 0;
    bool has_work = false;
  };
  Heartbeat heartbeat() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_SERVING_LOOP_H_
