#include "tests/server/scripted_engine.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace nibble::server {
namespace {

// A lower-case letter that depends on the whole history and, unless greedy, on the seed.
int32_t NextLetter(const engine::SampleRequest& request) {
  uint64_t hash = request.params->temperature < 1e-5f ? 0 : request.seed;
  for (const int32_t id : request.prompt) hash = hash * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(id) + 1;
  for (const int32_t id : request.generated) hash = hash * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(id) + 1;
  return 'a' + static_cast<int32_t>((hash >> 33) % 26);
}

engine::Logprobs ScriptedLogprobs(int32_t top) {
  engine::Logprobs logprobs{.logprob = -0.5f, .top = {}};
  for (int32_t i = 0; i < top; ++i) logprobs.top.push_back({'a' + i, -0.5f - static_cast<float>(i)});
  return logprobs;
}

}  // namespace

void ScriptedEngine::Hold() {
  absl::MutexLock lock(&mu_);
  held_ = true;
}

void ScriptedEngine::LetPass(int64_t steps) {
  absl::MutexLock lock(&mu_);
  passes_ += steps;
}

void ScriptedEngine::Release() {
  absl::MutexLock lock(&mu_);
  held_ = false;
}

void ScriptedEngine::AwaitHeldStep() {
  const auto waits = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return waiting_ && passes_ == 0; };
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&waits));
}

void ScriptedEngine::SetScript(std::function<int32_t(const engine::SampleRequest&)> script) {
  absl::MutexLock lock(&mu_);
  script_ = std::move(script);
}

int64_t ScriptedEngine::PromptTokensRun(int32_t first) const {
  absl::MutexLock lock(&mu_);
  return prompt_tokens_by_first_[first & 255];
}

void ScriptedEngine::Launch(const engine::StepPlan& plan) {
  result_.sequences.clear();
  for (const engine::SequenceStep& step : plan.sequences) result_.sequences.push_back(Run(step));
}

const engine::StepResult& ScriptedEngine::Await() {
  if (options_.step_time > absl::ZeroDuration()) absl::SleepFor(options_.step_time);
  const auto may_pass = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return !held_ || passes_ > 0; };
  absl::MutexLock lock(&mu_);
  waiting_ = true;
  mu_.Await(absl::Condition(&may_pass));
  waiting_ = false;
  if (held_) --passes_;
  return result_;
}

engine::SequenceResult ScriptedEngine::Run(const engine::SequenceStep& step) {
  engine::SequenceResult result;
  absl::MutexLock lock(&mu_);
  if (step.position == 0 && step.tokens[0] >= 0) {
    prompt_tokens_by_first_[step.tokens[0] & 255] += static_cast<int64_t>(step.tokens.size());
  }
  result.targets.assign(step.targets.size(), ScriptedLogprobs(step.prompt_logprobs_top));
  if (step.sample == nullptr) return result;
  const engine::SampleRequest& sample = *step.sample;
  result.faulted = std::find(sample.prompt.begin(), sample.prompt.end(), kFaultToken) != sample.prompt.end();
  result.token = script_ ? script_(sample) : NextLetter(sample);
  if (step.adapter != nullptr) result.token = static_cast<const ScriptedAdapter*>(step.adapter)->letter;
  if (sample.params->logprobs >= 0) result.logprobs = ScriptedLogprobs(sample.params->logprobs);
  return result;
}

}  // namespace nibble::server
