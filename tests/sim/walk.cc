#include "tests/sim/walk.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "scheduler/validate.h"

namespace nibble::sched {

SchedulerOptions Walk::DrawOptions(std::mt19937& random) {
  SchedulerOptions options = SmallOptions();
  options.step_tokens = 8 + static_cast<int64_t>(random() % 120);
  options.max_sequences = 1 + static_cast<int64_t>(random() % 8);
  options.max_queue = 1 + static_cast<int64_t>(random() % 12);
  options.max_queue_per_tenant = 1 + static_cast<int64_t>(random() % 8);
  options.max_queue_tokens = 200 + static_cast<int64_t>(random() % 1000);
  options.max_started = 1 + static_cast<int64_t>(random() % 20);
  options.watermark_pages = static_cast<int64_t>(random() % 4);
  options.prompt_logprob_rows = 1 + static_cast<int64_t>(random() % 40);
  return options;
}

Limits Walk::DrawLimits(std::mt19937& random) {
  Limits limits = kSmallLimits;
  limits.context_length = 256;
  limits.cache.num_pages = 3 + static_cast<int64_t>(random() % 24);
  limits.max_step_tokens = 128;
  if (random() % 3 == 0) return limits;
  limits.cache.window_pages = static_cast<int>(random() % 3);
  limits.cache.sink_pages = static_cast<int>(random() % 3);
  const int64_t least = limits.cache.sink_pages + 2 * (limits.cache.window_pages + 1);
  limits.cache.raw_slots = least + static_cast<int64_t>(random() % 30);
  return limits;
}

std::vector<TenantTerms> Walk::DrawTerms(std::mt19937& random, const Limits& limits) {
  std::vector<TenantTerms> terms(3);
  for (TenantTerms& of_tenant : terms) {
    of_tenant.weight = 0.5 * static_cast<double>(1 + random() % 4);
    if (random() % 2 == 0) of_tenant.max_sequences = 1 + static_cast<int64_t>(random() % 4);
    if (random() % 2 == 0) of_tenant.max_pages = 1 + static_cast<int64_t>(random() % limits.cache.num_pages);
    if (random() % 2 == 0) of_tenant.max_waiting = 1 + static_cast<int64_t>(random() % 6);
    if (random() % 3 == 0) of_tenant.pool = "pool";
  }
  return terms;
}

Walk::Walk(uint32_t seed)
    : random_(seed),
      options_(DrawOptions(random_)),
      limits_(DrawLimits(random_)),
      terms_(DrawTerms(random_, limits_)),
      harness_(options_, limits_) {}

Walk::Key Walk::DrawKey() { return {absl::StrCat("t", Draw(3)), absl::StrCat("r", Draw(12))}; }

Request Walk::DrawRequest() {
  RequestSpec spec;
  std::tie(spec.tenant, spec.id) = DrawKey();
  spec.terms = terms_[spec.tenant[1] - '0'];
  spec.prompt = 1 + Draw(Draw(4) == 0 ? 220 : 90);
  spec.text = absl::StrCat("text", Draw(3));
  spec.max_tokens = static_cast<int32_t>(1 + Draw(Draw(4) == 0 ? 120 : 20));
  spec.priority = static_cast<int32_t>(Draw(3) - 1);
  spec.num_choices = static_cast<int32_t>(Draw(5) == 0 ? 1 + Draw(4) : 1);
  if (Draw(6) == 0) spec.deadline = harness_.now() + Draw(60);
  if (Draw(8) == 0) spec.prompt_logprobs = static_cast<int32_t>(Draw(3));
  Request request = MakeRequest(spec, harness_.now());
  request.sampling.seed = static_cast<uint64_t>(Draw(2));
  if (Draw(3) == 0) request.stopping.end_ids = {static_cast<int32_t>(Draw(60)), static_cast<int32_t>(Draw(60))};
  if (Draw(4) == 0) request.stopping.min_tokens = static_cast<int32_t>(Draw(spec.max_tokens + 1));
  if (Draw(25) == 0) request.prompt[Draw(spec.prompt)] = kPoison;
  return request;
}

// Recounts from scratch.
absl::StatusCode Walk::ExpectedAnswer(const Request& request) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t most = prompt + request.stopping.max_tokens;
  if (most > limits_.context_length || most > limits_.cache.num_pages * kv::kPageTokens ||
      kv::PagesFor(most) > request.terms.max_pages) {
    return absl::StatusCode::kInvalidArgument;
  }
  std::map<Key, bool> live;  // and whether it waits for its first start
  for (const SequenceView& view : harness_.scheduler().Sequences()) {
    const bool fresh = view.index == 0 && view.state == SequenceState::kWaiting && !view.preempted;
    live[{view.tenant, view.id}] |= fresh;
  }
  if (live.contains({request.tenant, request.id})) return absl::StatusCode::kAlreadyExists;
  int64_t waiting = 0;
  int64_t of_tenant = 0;
  int64_t tokens = 0;
  for (const auto& [key, waits] : live) {
    if (!waits) continue;
    ++waiting;
    of_tenant += key.first == request.tenant;
    tokens += static_cast<int64_t>(harness_.sink(key.second, key.first).request().prompt.size());
  }
  const bool full = waiting >= options_.max_queue ||
                    of_tenant >= request.terms.max_waiting.value_or(options_.max_queue_per_tenant) ||
                    (waiting > 0 && tokens + prompt > options_.max_queue_tokens) ||
                    static_cast<int64_t>(live.size()) >= options_.max_queue + options_.max_started;
  return full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kOk;
}

void Walk::Submit() {
  const Request request = DrawRequest();
  const absl::StatusCode expected = ExpectedAnswer(request);
  const absl::Status status = harness_.SubmitRequest(request);
  NIBBLE_CHECK(status.code() == expected);
  submitted_ += status.ok();
}

void Walk::Run() {
  const std::string plan = harness_.Step();
  for (const char c : plan) trace_ = trace_ * 1099511628211 + static_cast<unsigned char>(c);
  ++steps_;
  CheckTerms();
}

// No tenant with several running sequences has more pages than its terms allow.
void Walk::CheckTerms() const {
  int64_t pages[3] = {};
  int64_t sequences[3] = {};
  for (const SequenceView& view : harness_.scheduler().Sequences()) {
    if (view.state != SequenceState::kRunning || view.paused) continue;
    pages[view.tenant[1] - '0'] += view.pages;
    ++sequences[view.tenant[1] - '0'];
  }
  for (int tenant = 0; tenant < 3; ++tenant) {
    NIBBLE_CHECK(sequences[tenant] <= 1 || pages[tenant] <= terms_[tenant].max_pages);
  }
}

void Walk::Step() {
  const Key key = DrawKey();
  switch (Draw(12)) {
    case 0:
    case 1:
    case 2:
      Submit();
      break;
    case 3:
      if (Draw(3) == 0) harness_.Cancel(key.second, static_cast<CancelCause>(Draw(4)), key.first);
      break;
    case 4:
      if (harness_.Has(key)) harness_.sink(key.second, key.first).AnswerNext(TokenSink::Verdict::kPause);
      break;
    case 5:
    case 6:
      harness_.Resume(key.second, key.first);
      break;
    case 7:
      if (Draw(4) == 0 && harness_.Has(key)) {
        harness_.sink(key.second, key.first).AnswerNext(TokenSink::Verdict::kStop);
      }
      break;
    case 8:
      if (Draw(20) == 0) harness_.scheduler().FlushIndex();
      break;
    default:
      break;
  }
  Run();
}

void Walk::End() {
  for (int64_t round = 0; !harness_.scheduler().idle(); ++round) {
    NIBBLE_CHECK(round < 20'000);  // somebody starves
    for (const SequenceView& view : harness_.scheduler().Sequences()) harness_.Resume(view.id, view.tenant);
    Run();
  }
  harness_.CheckAllEnded();
  int64_t finished = 0;
  for (const int64_t count : harness_.counters().finished) finished += count;
  NIBBLE_CHECK(finished == submitted_);
  harness_.scheduler().FlushIndex();
  NIBBLE_CHECK(harness_.counters().pages_free == limits_.cache.num_pages);
  NIBBLE_CHECK(harness_.counters().raw_slots_free == limits_.cache.raw_slots);
}

}  // namespace nibble::sched
