#include "scheduler/scheduler.h"

#include <algorithm>
#include <random>

#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::sched {
namespace {

kv::Hash128 RandomKey() {
  std::random_device entropy;
  const auto word = [&entropy] { return (uint64_t{entropy()} << 32) | entropy(); };
  return {word(), word()};
}

SchedulerOptions Bounded(SchedulerOptions options, const Limits& limits) {
  options.step_tokens = std::min(options.step_tokens, limits.max_step_tokens);
  options.max_sequences = std::min(options.max_sequences, limits.max_sequences);
  return options;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, const Limits& limits)
    : options_(Bounded(options, limits)),
      limits_(limits),
      admission_(options_, limits),
      cache_(limits.cache, options.prefix_key ? *options.prefix_key : RandomKey()),
      index_watchers_(&cache_, PrefixSalt(options_.cache_salt, Request())) {
  NIBBLE_CHECK(options_.step_tokens >= 1 && options_.max_sequences >= 1);
}

absl::Status Scheduler::Submit(Request request, TokenSink* sink) {
  NIBBLE_RETURN_IF_ERROR(admission_.Admit(request));
  Enqueue(std::move(request), sink);
  return absl::OkStatus();
}

void Scheduler::Enqueue(Request request, TokenSink* sink) {
  NIBBLE_CHECK(rows_.empty());
  const uint64_t order = next_order_++;
  std::unique_ptr<LiveRequest>& live = live_[order];
  live = MakeLive(std::move(request), sink, order, options_.cache_salt);
  const Request& kept = live->request;
  const bool fresh = by_sink_.try_emplace(sink, live.get()).second;
  NIBBLE_CHECK(fresh);
  if (kept.deadline != kNoDeadline) deadlines_.emplace(kept.deadline, order);
  live->account = fair_share_.Join(kept.tenant, kept.terms.weight);
  live->choices[0].state = SequenceState::kWaiting;
  waiting_.Push(live->choices[0]);
}

LiveRequest* Scheduler::FindLive(const TokenSink* sink) {
  const auto found = by_sink_.find(sink);
  return found == by_sink_.end() ? nullptr : found->second;
}

void Scheduler::Cancel(const TokenSink* sink, CancelCause cause) {
  if (LiveRequest* request = FindLive(sink)) CancelRequest(*request, cause);
}

void Scheduler::CancelAll(CancelCause cause) {
  while (!live_.empty()) CancelRequest(*live_.begin()->second, cause);
}

void Scheduler::CancelRequest(LiveRequest& request, CancelCause cause) {
  NIBBLE_CHECK(rows_.empty());
  ++counters_.cancelled[static_cast<size_t>(cause)];
  const FinishReason reason = cause == CancelCause::kDeadline ? FinishReason::kDeadline : FinishReason::kCancelled;
  // The last choice to finish takes the request with it.
  std::vector<Sequence*> choices;
  for (Sequence& choice : request.choices) {
    if (choice.state != SequenceState::kFinished) choices.push_back(&choice);
  }
  for (Sequence* choice : choices) Finish(*choice, reason);
}

void Scheduler::Resume(const TokenSink* sink) {
  LiveRequest* request = FindLive(sink);
  if (request == nullptr) return;
  for (Sequence& choice : request->choices) choice.paused = false;
}

void Scheduler::ReleaseChoices(LiveRequest& request) {
  for (Sequence& choice : request.choices) {
    if (choice.state != SequenceState::kHeld) continue;
    choice.state = SequenceState::kWaiting;
    waiting_.Push(choice);
  }
}

void Scheduler::Finish(Sequence& sequence, FinishReason reason, int32_t stop_token_id) {
  LiveRequest& request = *sequence.request;
  shortage_ = {};
  if (sequence.state == SequenceState::kRunning) running_.erase(std::find(running_.begin(), running_.end(), &sequence));
  if (sequence.state == SequenceState::kWaiting) waiting_.Remove(sequence);
  sequence.state = SequenceState::kFinished;
  sequence.lease = kv::Lease();
  request.worst = std::max(request.worst, reason);
  if (sequence.index == 0) ReleaseChoices(request);
  // Whoever hears of the end may use the id again at once.
  std::unique_ptr<LiveRequest> retired;
  if (--request.live_choices == 0) retired = Retire(request);
  request.sink->OnFinish(sequence.index, {reason, stop_token_id, sequence.usage});
}

std::unique_ptr<LiveRequest> Scheduler::Retire(LiveRequest& request) {
  const Request& kept = request.request;
  ++counters_.finished[static_cast<size_t>(request.worst)];
  int64_t generated = 0;
  for (const Sequence& choice : request.choices) generated += choice.usage.generated_tokens;
  admission_.Finished(kept, request.started, generated);
  by_sink_.erase(request.sink);
  deadlines_.erase({kept.deadline, request.order});
  fair_share_.Leave(*request.account);
  return std::move(live_.extract(request.order).mapped());
}

}  // namespace nibble::sched
