#include "tests/scheduler/fake_engine.h"

#include <algorithm>

#include "kvcache/base/check.h"
#include "scheduler/sequence.h"

namespace nibble::sched {
namespace {

constexpr uint64_t kStart = 0x6e6962626c650001;

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15 + b + 0x632be59bd9b4e019;
  z = (z ^ (z >> 32)) * 0xd6e8feb86659fd93;
  return z ^ (z >> 32);
}

}  // namespace

uint64_t ChainOf(absl::Span<const int32_t> tokens) {
  uint64_t chain = kStart;
  for (const int32_t token : tokens) chain = Mix(chain, static_cast<uint64_t>(token));
  return chain;
}

int32_t NextToken(uint64_t chain, const engine::SampleRequest& sample, int64_t vocab_size) {
  uint64_t draw = Mix(Mix(chain, sample.seed), sample.generated.size());
  draw = Mix(draw, ChainOf(sample.prompt));
  for (;; draw = Mix(draw, 1)) {
    const int32_t token = static_cast<int32_t>(draw % static_cast<uint64_t>(vocab_size));
    const bool banned = std::find(sample.banned.begin(), sample.banned.end(), token) != sample.banned.end();
    if (!banned && token != kPoison) return token;
  }
}

float TargetLogprob(uint64_t chain, int32_t target) {
  return -static_cast<float>(Mix(chain, static_cast<uint64_t>(target)) >> 40);
}

void FakeEngine::Launch(const engine::StepPlan& plan) {
  NIBBLE_CHECK(in_flight_ == nullptr);
  NIBBLE_CHECK(static_cast<int64_t>(plan.sequences.size()) <= limits_.max_sequences);
  int64_t tokens = 0;
  for (const engine::SequenceStep& step : plan.sequences) tokens += static_cast<int64_t>(step.tokens.size());
  NIBBLE_CHECK(tokens >= 1 && tokens <= limits_.max_step_tokens);
  in_flight_ = &plan;
}

// Everything is read here, as late as an engine may.
const engine::StepResult& FakeEngine::Await() {
  NIBBLE_CHECK(in_flight_ != nullptr);
  if (on_await_) on_await_();
  results_.sequences.clear();
  for (const engine::SequenceStep& step : in_flight_->sequences) results_.sequences.push_back(Run(step));
  in_flight_ = nullptr;
  ++steps_;
  return results_;
}

// Walks every page below `position` and returns the chain found at its end.
uint64_t FakeEngine::Read(const engine::SequenceStep& step) const {
  uint64_t chain = kStart;
  for (int64_t at = 0; at < step.position; at += kv::kPageTokens) {
    const kv::PageId id = step.pages[at / kv::kPageTokens];
    const int64_t length = std::min<int64_t>(kv::kPageTokens, step.position - at);
    NIBBLE_CHECK(static_cast<int64_t>(pages_[id].size()) > length);  // written
    NIBBLE_CHECK(pages_[id][0] == chain);                            // and by a run of the same tokens before it
    NIBBLE_CHECK(cache_ == nullptr || cache_->holders(id) >= 1);
    chain = pages_[id][length];
  }
  return chain;
}

// The raw forms that the step's first query reads.
void FakeEngine::ReadRaw(const engine::SequenceStep& step) const {
  const int64_t page = step.position / kv::kPageTokens;
  for (int64_t j = 0; j <= page && j * kv::kPageTokens < step.position; ++j) {
    if (!limits_.cache.ReadsRaw(j, step.position)) continue;
    const kv::RawSlot slot = step.raw_slots[j];
    NIBBLE_CHECK(slot >= 0 && slot < limits_.cache.raw_slots);
    const Page& sealed = pages_[step.pages[j]];
    const size_t length = std::min<int64_t>(kv::kPageTokens, step.position - j * kv::kPageTokens) + 1;
    NIBBLE_CHECK(raw_[slot].size() >= length && std::equal(&sealed[0], &sealed[0] + length, &raw_[slot][0]));
  }
}

// A slot gets what its page has now; pages without one must not be read raw after the step.
void FakeEngine::WriteRaw(const engine::SequenceStep& step) {
  const int64_t end = step.position + static_cast<int64_t>(step.tokens.size());
  for (int64_t j = step.position / kv::kPageTokens; j < kv::PagesFor(end); ++j) {
    const kv::RawSlot slot = step.raw_slots[j];
    NIBBLE_CHECK(slot != kv::kNoRawSlot || !limits_.cache.ReadsRaw(j, end));
    NIBBLE_CHECK(slot != kv::kNoRawSlot || j * kv::kPageTokens >= step.position);
    if (slot != kv::kNoRawSlot) raw_[slot] = pages_[step.pages[j]];
  }
}

uint64_t FakeEngine::Write(const engine::SequenceStep& step, uint64_t chain) {
  for (size_t i = 0; i < step.tokens.size(); ++i) {
    const int64_t position = step.position + static_cast<int64_t>(i);
    const kv::PageId id = step.pages[position / kv::kPageTokens];
    NIBBLE_CHECK(cache_ == nullptr || (cache_->state(id) == kv::PageState::kOpen && cache_->holders(id) == 1));
    Page& page = pages_[id];
    if (position % kv::kPageTokens == 0) page = {chain};
    NIBBLE_CHECK(static_cast<int64_t>(page.size()) == position % kv::kPageTokens + 1);  // appended, never rewritten
    chain = Mix(chain, static_cast<uint64_t>(step.tokens[i]));
    page.push_back(chain);
  }
  return chain;
}

engine::SequenceResult FakeEngine::Run(const engine::SequenceStep& step) {
  const int64_t length = static_cast<int64_t>(step.tokens.size());
  NIBBLE_CHECK(length >= 1 && step.logit_rows >= 0 && step.logit_rows <= length);
  NIBBLE_CHECK(static_cast<int64_t>(step.pages.size()) >= kv::PagesFor(step.position + length));
  const uint64_t before = Read(step);
  if (!limits_.cache.in_place()) ReadRaw(step);
  const uint64_t chain = Write(step, before);
  if (!limits_.cache.in_place()) WriteRaw(step);
  engine::SequenceResult result;
  result.faulted = std::find(step.tokens.begin(), step.tokens.end(), kPoison) != step.tokens.end();
  if (step.sample != nullptr) {
    NIBBLE_CHECK(step.logit_rows >= 1);
    result.token = NextToken(chain, *step.sample, limits_.vocab_size);
    result.logprobs.logprob = TargetLogprob(chain, result.token);
  }
  if (!step.targets.empty()) {
    NIBBLE_CHECK(static_cast<int64_t>(step.targets.size()) == step.logit_rows);
    uint64_t at = before;
    for (int64_t i = 0; i < length; ++i) {
      at = Mix(at, static_cast<uint64_t>(step.tokens[i]));
      const int64_t target = i - (length - step.logit_rows);
      if (target >= 0) result.targets.push_back({TargetLogprob(at, step.targets[target]), {}});
    }
    targets_ += step.logit_rows;
  }
  return result;
}

Answer SoloRun(const Request& request, int index, int64_t vocab_size) {
  Answer answer;
  uint64_t chain = ChainOf(request.prompt);
  std::vector<int32_t> terminators = request.stopping.stop_token_ids;
  terminators.insert(terminators.end(), request.stopping.end_ids.begin(), request.stopping.end_ids.end());
  while (static_cast<int32_t>(answer.tokens.size()) < request.stopping.max_tokens) {
    const bool below = static_cast<int32_t>(answer.tokens.size()) < request.stopping.min_tokens;
    engine::SampleRequest sample;
    sample.prompt = request.prompt;
    sample.generated = answer.tokens;
    if (below) sample.banned = terminators;
    sample.seed = ChoiceSeed(request.sampling.seed, index);
    const int32_t token = NextToken(chain, sample, vocab_size);
    if (std::find(terminators.begin(), terminators.end(), token) != terminators.end()) {
      return {answer.tokens, FinishReason::kStop, token};
    }
    answer.tokens.push_back(token);
    chain = Mix(chain, static_cast<uint64_t>(token));
  }
  return answer;
}

}  // namespace nibble::sched
