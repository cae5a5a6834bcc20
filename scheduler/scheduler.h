// Decides who runs in each step. Plan and Commit have no side effect outside the scheduler, its leases and the sinks.
//
// One step: Plan(now) → engine → Commit(results, now). Deterministic: the same calls give the same plans. No clock:
// time is an argument. Thread: one owner; only admission() may be used from any thread.
//
// A plan holds every running sequence that has one token left to compute (a decode), then chunks of prompts under the
// token budget: the highest priority first, then the tenant that was given least, then the oldest. Where a running
// sequence needs a page and none is left, the newest sequence of the lowest priority is preempted: it gives its pages
// back and resumes later from what the prefix index still has. The first in rank is never preempted and admission
// proved that it fits, so it always ends.
#ifndef NIBBLE_SCHEDULER_SCHEDULER_H_
#define NIBBLE_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/engine.h"
#include "kvcache/cache.h"
#include "scheduler/admission.h"
#include "scheduler/counters.h"
#include "scheduler/index_watchers.h"
#include "scheduler/options.h"
#include "scheduler/request.h"
#include "scheduler/sequence.h"
#include "scheduler/waiting_queue.h"

namespace nibble::sched {

// One live sequence as an observer sees it.
struct SequenceView {
  std::string tenant;
  std::string id;
  int index = 0;
  SequenceState state = SequenceState::kWaiting;
  bool paused = false;
  bool preempted = false;
  int64_t tokens = 0;    // prompt and generated
  int64_t computed = 0;  // of those, in pages
  int64_t planned = 0;   // tokens in the step in flight
  int64_t pages = 0;
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, const Limits& limits);

  // Proves requests and bounds the queue; the only part that other threads may call.
  Admission& admission() { return admission_; }

  // The following four REQUIRE that no step is in flight. They may call sinks.

  // admission().Admit and Enqueue in one. A sink hears one live request at a time.
  absl::Status Submit(Request request, TokenSink* sink);
  // Takes a request that admission().Admit has accepted.
  void Enqueue(Request request, TokenSink* sink);
  // Ends all choices of the request that `sink` hears, now, in whatever state they are; their pages are free on return.
  // kDeadline ends them with FinishReason::kDeadline, every other cause with kCancelled. Ignored where none is live.
  void Cancel(const TokenSink* sink, CancelCause cause);
  void CancelAll(CancelCause cause);

  // The reader of a paused request has caught up. Ignored where none is live.
  void Resume(const TokenSink* sink);
  // Frees all pages that only the prefix index keeps.
  void FlushIndex() { cache_.FlushIndex(); }
  // Who hears what the prefix index has for requests without tenant and adapter; told by Tell() alone.
  IndexWatchers& index_watchers() { return index_watchers_; }

  // Ends what is past its deadline, then decides the next step. An empty plan means that nothing can run before a
  // Submit, a Resume or next_deadline(), and needs no Commit. The plan is valid until Commit returns.
  const engine::StepPlan& Plan(Nanos now);
  // Advances exactly what was planned. REQUIRES: a plan that is not empty, and its results.
  void Commit(const engine::StepResult& results, Nanos now);

  bool idle() const { return live_.empty(); }
  // Of all live requests; kNoDeadline if there is none.
  Nanos next_deadline() const { return deadlines_.empty() ? kNoDeadline : deadlines_.begin()->first; }
  Counters counters() const;

  // For tests and debugging: the live sequences in order of arrival, the pages, and whether everything agrees.
  std::vector<SequenceView> Sequences() const;
  const kv::Cache& cache() const { return cache_; }
  void CheckInvariants() const;

 private:
  // One sequence's part of the step in flight.
  struct Row {
    Sequence* sequence = nullptr;
    int64_t num_tokens = 0;
    bool samples = false;
  };
  // A start that failed. It is tried again only when there is more: a try hashes the whole prompt and makes the pages
  // that it finds look used.
  struct Shortage {
    const Sequence* sequence = nullptr;
    int64_t pages = 0;  // there were for it
  };

  // plan.cc
  void ExpireDeadlines(Nanos now);
  bool GrowRunning();
  void StartWaiting(Nanos now);
  bool HasRoomFor(const Sequence& sequence) const;
  bool TryStart(Sequence& sequence, Nanos now);
  bool MakeRoomForLease(const Sequence& sequence);
  void NoteFirstStart(Sequence& sequence, Nanos now);
  void Run(Sequence& sequence);
  static bool YieldsTo(const Sequence& victim, const Sequence& sequence);
  int64_t ObtainablePages(const Sequence& sequence) const;
  Sequence& VictimOfGrowth() const;
  void Preempt(Sequence& sequence);
  void FillPlan();
  bool AddNext(Sequence& sequence, int64_t& budget);
  int64_t ChunkSize(const Sequence& sequence, int64_t budget) const;
  int64_t WithRawSlots(Sequence& sequence, int64_t num_tokens);
  void AddRow(Sequence& sequence, int64_t num_tokens);

  // fairness.cc
  void CountRunning();
  Sequence* VictimOfTerms(const Sequence& sequence) const;
  static void Charge(Sequence& sequence, int64_t num_tokens, bool samples);

  // commit.cc
  void Advance(const Row& row, const engine::SequenceResult& result, Nanos now);
  void AcceptToken(Sequence& sequence, const engine::SequenceResult& result, Nanos now);
  void ReportPromptLogprobs(Sequence& sequence, const engine::SequenceResult& result);

  // scheduler.cc
  LiveRequest* FindLive(const TokenSink* sink);
  void CancelRequest(LiveRequest& request, CancelCause cause);
  void ReleaseChoices(LiveRequest& request);
  void Finish(Sequence& sequence, FinishReason reason, int32_t stop_token_id = -1);
  std::unique_ptr<LiveRequest> Retire(LiveRequest& request);

  const SchedulerOptions options_;
  const Limits limits_;
  Admission admission_;
  kv::Cache cache_;
  IndexWatchers index_watchers_;
  std::map<uint64_t, std::unique_ptr<LiveRequest>> live_;  // by order of arrival
  absl::flat_hash_map<const TokenSink*, LiveRequest*> by_sink_;
  FairShare fair_share_;
  std::set<std::pair<Nanos, uint64_t>> deadlines_;  // (deadline, order), of live requests that have one
  std::vector<Sequence*> running_;                  // those with a lease, paused ones included; by rank
  WaitingQueue waiting_;
  Shortage shortage_;  // forgotten when a sequence starts or ends, or prompts were computed whose pages may be shared
  uint64_t next_order_ = 0;
  engine::StepPlan plan_;
  std::vector<Row> rows_;  // of plan_; not empty: a step is in flight
  Counters counters_;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_SCHEDULER_H_
