#include "tests/scheduler/harness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kvcache/base/check.h"

namespace nibble::sched {

TokenSink::Verdict RecordingSink::OnToken(int index, int32_t token, const engine::Logprobs& logprobs) {
  NIBBLE_CHECK(!ended_[index]);
  std::vector<int32_t> history = request_.prompt;
  history.insert(history.end(), answers_[index].begin(), answers_[index].end());
  NIBBLE_CHECK(logprobs.logprob == TargetLogprob(ChainOf(history), token));
  answers_[index].push_back(token);
  const Verdict verdict = std::exchange(next_verdict_, Verdict::kContinue);
  stopped_ |= verdict == Verdict::kStop;
  return verdict;
}

void RecordingSink::OnPromptLogprobs(int64_t first, absl::Span<const engine::Logprobs> targets) {
  NIBBLE_CHECK(!ended_[0] && answers_[0].empty());
  NIBBLE_CHECK(first == prompt_logprobs_ + 1);
  for (const engine::Logprobs& target : targets) {
    const int64_t at = ++prompt_logprobs_;
    NIBBLE_CHECK(target.logprob ==
                 TargetLogprob(ChainOf(absl::MakeConstSpan(request_.prompt).first(at)), request_.prompt[at]));
  }
}

void RecordingSink::OnFinish(int index, const Finish& finish) {
  NIBBLE_CHECK(!ended_[index]);
  ended_[index] = true;
  finished_[index] = finish;
  ++num_finished_;
  CheckAnswer(index, finish);
}

void RecordingSink::CheckAnswer(int index, const Finish& finish) const {
  const Answer solo = SoloRun(request_, index, kSmallLimits.vocab_size);
  const std::vector<int32_t>& told = answers_[index];
  const bool poisoned = std::count(request_.prompt.begin(), request_.prompt.end(), kPoison) > 0;
  NIBBLE_CHECK(told.empty() || !poisoned);
  NIBBLE_CHECK(finish.reason != FinishReason::kError || poisoned);
  NIBBLE_CHECK(told.size() <= solo.tokens.size() && std::equal(told.begin(), told.end(), solo.tokens.begin()));
  NIBBLE_CHECK(finish.usage.generated_tokens == static_cast<int64_t>(told.size()));
  const bool own = finish.reason == FinishReason::kStop || finish.reason == FinishReason::kLength;
  NIBBLE_CHECK(!own || !poisoned);
  if (!own || stopped_) return;
  NIBBLE_CHECK(finish.reason == solo.reason && finish.stop_token_id == solo.stop_token_id);
  NIBBLE_CHECK(told.size() == solo.tokens.size());
  const int64_t owed = request_.prompt_logprobs < 0 ? 0 : static_cast<int64_t>(request_.prompt.size()) - 1;
  NIBBLE_CHECK(index != 0 || prompt_logprobs_ == owed);
}

Request MakeRequest(const RequestSpec& spec, Nanos arrival) {
  Request request;
  request.id = spec.id;
  request.tenant = spec.tenant;
  request.terms = spec.terms;
  uint64_t state = 1;
  for (const char c : spec.text.empty() ? spec.id : spec.text) state = state * 131 + static_cast<unsigned char>(c);
  for (int64_t i = 0; i < spec.prompt; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    request.prompt.push_back(static_cast<int32_t>((state >> 33) % kPoison));
  }
  request.stopping.max_tokens = spec.max_tokens;
  request.priority = spec.priority;
  request.num_choices = spec.num_choices;
  request.deadline = spec.deadline;
  request.prompt_logprobs = spec.prompt_logprobs;
  request.arrival = arrival;
  return request;
}

SchedulerOptions SmallOptions() {
  SchedulerOptions options;
  options.step_tokens = 64;
  options.max_sequences = 8;
  options.watermark_pages = 1;
  options.prefix_key = kv::Hash128{1, 2};
  return options;
}

Harness::Harness(const SchedulerOptions& options, const Limits& limits)
    : engine_(limits), options_(options), scheduler_(options, limits) {
  engine_.Watch(&scheduler_.cache());
}

Harness::~Harness() { scheduler_.CancelAll(CancelCause::kDrain); }

absl::Status Harness::SubmitRequest(const Request& request) {
  auto sink = std::make_unique<RecordingSink>(request);
  const absl::Status status = scheduler_.Submit(request, sink.get());
  if (status.ok()) {
    std::unique_ptr<RecordingSink>& place = sinks_[{request.tenant, request.id}];
    NIBBLE_CHECK(place == nullptr || place->done());  // ids are unique among the live
    place = std::move(sink);
  }
  scheduler_.CheckInvariants();
  return status;
}

void Harness::Cancel(const std::string& id, CancelCause cause, const std::string& tenant) {
  scheduler_.Cancel(Find(id, tenant), cause);
  scheduler_.CheckInvariants();
}

void Harness::Resume(const std::string& id, const std::string& tenant) { scheduler_.Resume(Find(id, tenant)); }

const RecordingSink* Harness::Find(const std::string& id, const std::string& tenant) const {
  const auto found = sinks_.find({tenant, id});
  return found == sinks_.end() ? nullptr : found->second.get();
}

std::string Harness::Step() {
  const engine::StepPlan& plan = scheduler_.Plan(now_);
  const std::vector<SequenceView> views = scheduler_.Sequences();
  CheckPlan(plan, views);
  std::vector<std::string> rows;
  for (const SequenceView& view : views) {
    if (view.planned == 0) continue;
    const std::string choice = view.index == 0 ? "" : absl::StrCat("/", view.index);
    rows.push_back(absl::StrCat(view.id, choice, ":", view.planned));
  }
  if (!plan.sequences.empty()) {
    engine_.Launch(plan);
    scheduler_.Commit(engine_.Await(), now_);
  }
  scheduler_.CheckInvariants();
  ++now_;
  return absl::StrJoin(rows, " ");
}

void Harness::CheckAllEnded() const {
  for (const auto& [key, sink] : sinks_) NIBBLE_CHECK(sink->done());
}

void Harness::Drain() {
  while (!Step().empty()) continue;
}

// Nothing lives past its deadline; a plan keeps the budgets, leaves no decode out while tokens are left, and is empty
// only where nothing may run.
void Harness::CheckPlan(const engine::StepPlan& plan, const std::vector<SequenceView>& views) const {
  int64_t tokens = 0;
  int64_t rows = 0;
  for (const SequenceView& view : views) {
    tokens += view.planned;
    rows += view.planned > 0;
    NIBBLE_CHECK(view.planned == 0 || (view.state == SequenceState::kRunning && !view.paused));
    NIBBLE_CHECK(sinks_.at({view.tenant, view.id})->request().deadline > now_);
  }
  NIBBLE_CHECK(rows == static_cast<int64_t>(plan.sequences.size()) && rows <= options_.max_sequences);
  NIBBLE_CHECK(tokens <= options_.step_tokens);
  for (const SequenceView& view : views) {
    if (view.state == SequenceState::kFinished || view.paused) continue;
    NIBBLE_CHECK(rows > 0);
    const bool full = tokens == options_.step_tokens || rows == options_.max_sequences;
    NIBBLE_CHECK(view.state != SequenceState::kRunning || view.planned > 0 || full);
  }
}

}  // namespace nibble::sched
