// An engine without a model. It keeps, in place of K and V, what a real one's depend on: for each position of each page
// the chain hash of the sequence's tokens up to there. A row's result is a function of the chain found *in the pages*,
// so a wrong page table, a read of a page never written or since recycled, or an overwritten sealed page either fails a
// check here or changes the tokens.
#ifndef NIBBLE_TESTS_SCHEDULER_FAKE_ENGINE_H_
#define NIBBLE_TESTS_SCHEDULER_FAKE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "engine/engine.h"
#include "kvcache/cache.h"
#include "scheduler/options.h"

namespace nibble::sched {

// A row that holds this token is reported as faulted.
inline constexpr int32_t kPoison = 63;

class FakeEngine : public engine::Engine {
 public:
  explicit FakeEngine(const Limits& limits)
      : limits_(limits), pages_(limits.cache.num_pages), raw_(limits.cache.raw_slots) {}

  void Launch(const engine::StepPlan& plan) override;
  const engine::StepResult& Await() override;
  int64_t vocab_size() const override { return limits_.vocab_size; }
  int64_t context_length() const override { return limits_.context_length; }
  kv::CacheShape cache_shape() const override { return limits_.cache; }
  int64_t max_step_tokens() const override { return limits_.max_step_tokens; }
  int64_t max_sequences() const override { return limits_.max_sequences; }

  // If set, pages are also checked against it: written ones open with one holder, read ones held.
  void Watch(const kv::Cache* cache) { cache_ = cache; }
  // If set, called in Await, where a real engine computes.
  void OnAwait(std::function<void()> callback) { on_await_ = std::move(callback); }
  int64_t steps() const { return steps_; }
  // Prompt logprobs computed, over all rows.
  int64_t targets() const { return targets_; }

 private:
  using Page = std::vector<uint64_t>;  // chains of the positions written since position 0 of the page
  uint64_t Read(const engine::SequenceStep& step) const;
  void ReadRaw(const engine::SequenceStep& step) const;
  void WriteRaw(const engine::SequenceStep& step);
  uint64_t Write(const engine::SequenceStep& step, uint64_t chain);
  engine::SequenceResult Run(const engine::SequenceStep& step);

  const Limits limits_;
  std::vector<Page> pages_;
  std::vector<Page> raw_;  // by raw slot
  const kv::Cache* cache_ = nullptr;
  std::function<void()> on_await_;
  const engine::StepPlan* in_flight_ = nullptr;
  engine::StepResult results_;
  int64_t steps_ = 0;
  int64_t targets_ = 0;
};

// The same as pure functions of the tokens, for the undisturbed run.
uint64_t ChainOf(absl::Span<const int32_t> tokens);
int32_t NextToken(uint64_t chain, const engine::SampleRequest& sample, int64_t vocab_size);
float TargetLogprob(uint64_t chain, int32_t target);

// What choice `index` of a request must answer.
struct Answer {
  std::vector<int32_t> tokens;
  FinishReason reason = FinishReason::kLength;
  int32_t stop_token_id = -1;
};
Answer SoloRun(const Request& request, int index, int64_t vocab_size);

}  // namespace nibble::sched

#endif  // NIBBLE_TESTS_SCHEDULER_FAKE_ENGINE_H_
