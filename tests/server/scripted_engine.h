// An engine that computes nothing: what it answers is a function of the request alone, when it answers is up to the
// test.
#ifndef NIBBLE_TESTS_SERVER_SCRIPTED_ENGINE_H_
#define NIBBLE_TESTS_SERVER_SCRIPTED_ENGINE_H_

#include <cstdint>
#include <functional>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/engine.h"

namespace nibble::server {

struct ScriptedEngineOptions {
  int64_t vocab_size = 288;  // more rows than the tokenizer has tokens
  int64_t context_length = 1024;
  int64_t num_pages = 256;
  int64_t max_step_tokens = 256;
  int64_t max_sequences = 64;
  absl::Duration step_time = absl::ZeroDuration();
};

// Every token is `letter`.
struct ScriptedAdapter : engine::Adapter {
  int64_t bytes() const override { return size; }
  char letter = 0;
  int64_t size = 0;
};

class ScriptedEngine final : public engine::Engine {
 public:
  // A prompt that holds this id faults.
  static constexpr int32_t kFaultToken = 1;

  explicit ScriptedEngine(const ScriptedEngineOptions& options) : options_(options) {}

  // Steps wait until Release(); the test can let a few pass.
  void Hold();
  void LetPass(int64_t steps);
  void Release();
  // Returns once a step waits.
  void AwaitHeldStep();
  // Replaces the next-token function.
  void SetScript(std::function<int32_t(const engine::SampleRequest&)> script);
  // Tokens run so far at positions of prompts that begin with `first`.
  int64_t PromptTokensRun(int32_t first) const;

  void Launch(const engine::StepPlan& plan) override;
  const engine::StepResult& Await() override;
  int64_t vocab_size() const override { return options_.vocab_size; }
  int64_t context_length() const override { return options_.context_length; }
  kv::CacheShape cache_shape() const override { return {options_.num_pages}; }
  int64_t max_step_tokens() const override { return options_.max_step_tokens; }
  int64_t max_sequences() const override { return options_.max_sequences; }

 private:
  engine::SequenceResult Run(const engine::SequenceStep& step);

  const ScriptedEngineOptions options_;
  engine::StepResult result_;
  mutable absl::Mutex mu_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;
  int64_t passes_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<int32_t(const engine::SampleRequest&)> script_ ABSL_GUARDED_BY(mu_);
  int64_t prompt_tokens_by_first_[256] ABSL_GUARDED_BY(mu_) = {};
};

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_SCRIPTED_ENGINE_H_
