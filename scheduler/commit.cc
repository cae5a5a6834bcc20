// Commit: advances exactly what was planned.
#include <algorithm>

#include "kvcache/base/check.h"
#include "scheduler/scheduler.h"

namespace nibble::sched {

void Scheduler::Commit(const engine::StepResult& results, Nanos now) {
  NIBBLE_CHECK(!rows_.empty() && results.sequences.size() == rows_.size());
  ++counters_.steps;
  for (size_t i = 0; i < rows_.size(); ++i) Advance(rows_[i], results.sequences[i], now);
  rows_.clear();
  plan_.sequences.clear();
}

void Scheduler::Advance(const Row& row, const engine::SequenceResult& result, Nanos now) {
  Sequence& sequence = *row.sequence;
  counters_.step_tokens += row.num_tokens;
  if (result.faulted) return Finish(sequence, FinishReason::kError);
  if (row.num_tokens > 1) shortage_ = {};
  sequence.computed += row.num_tokens;
  cache_.Seal(sequence.lease, absl::Span<const int32_t>(sequence.tokens).first(sequence.computed));
  if (!result.targets.empty()) ReportPromptLogprobs(sequence, result);
  if (row.samples) AcceptToken(sequence, result, now);
}

void Scheduler::ReportPromptLogprobs(Sequence& sequence, const engine::SequenceResult& result) {
  const int64_t first = sequence.reported;
  sequence.reported += static_cast<int64_t>(result.targets.size());
  sequence.request->sink->OnPromptLogprobs(first, result.targets);
}

void Scheduler::AcceptToken(Sequence& sequence, const engine::SequenceResult& result, Nanos now) {
  LiveRequest& live = *sequence.request;
  if (sequence.index == 0) ReleaseChoices(live);
  if (std::find(live.terminators.begin(), live.terminators.end(), result.token) != live.terminators.end()) {
    return Finish(sequence, FinishReason::kStop, result.token);
  }
  if (sequence.matcher != nullptr && !sequence.matcher->Accept(result.token)) {
    return Finish(sequence, FinishReason::kError);
  }
  sequence.tokens.push_back(result.token);
  ++counters_.generated_tokens;
  if (++sequence.usage.generated_tokens == 1) sequence.usage.first_token_time = now - live.request.arrival;
  const TokenSink::Verdict verdict = live.sink->OnToken(sequence.index, result.token, result.logprobs);
  const bool complete = sequence.matcher != nullptr && !sequence.matcher->CanGoOn();
  if (verdict == TokenSink::Verdict::kStop || complete) return Finish(sequence, FinishReason::kStop);
  if (sequence.usage.generated_tokens == live.request.stopping.max_tokens) {
    return Finish(sequence, FinishReason::kLength);
  }
  sequence.paused = verdict == TokenSink::Verdict::kPause;
}

}  // namespace nibble::sched
