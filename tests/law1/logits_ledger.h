// Law 1 as a ledger: under one setting of model, modes and codec, the logits that follow a history of tokens have one
// hash, whoever computed them, when, with whom and where. Every engine that writes into a ledger is held to what the
// others wrote.
#ifndef NIBBLE_TESTS_LAW1_LOGITS_LEDGER_H_
#define NIBBLE_TESTS_LAW1_LOGITS_LEDGER_H_

#include <cstdint>
#include <map>
#include <vector>

#include "engine/engine.h"

namespace nibble {

class LogitsLedger {
 public:
  // Notes the logits that follow `history`, or counts a contradiction of what is noted already.
  void Note(std::vector<int32_t> history, const float* logits, int64_t vocab_size);

  int64_t entries() const { return static_cast<int64_t>(hashes_.size()); }
  int64_t confirmations() const { return confirmations_; }
  int64_t contradictions() const { return contradictions_; }

 private:
  std::map<std::vector<int32_t>, uint64_t> hashes_;
  int64_t confirmations_ = 0;
  int64_t contradictions_ = 0;
};

// An engine that writes every row of logits it samples from into a ledger.
class LedgerEngine : public engine::Engine {
 public:
  // Both must outlive it.
  LedgerEngine(engine::Engine& engine, LogitsLedger& ledger) : engine_(engine), ledger_(ledger) {}

  // Sequences of the largest step so far.
  int64_t largest_batch() const { return largest_batch_; }

  void Launch(const engine::StepPlan& plan) override;
  const engine::StepResult& Await() override;
  int64_t vocab_size() const override { return engine_.vocab_size(); }
  int64_t context_length() const override { return engine_.context_length(); }
  kv::CacheShape cache_shape() const override { return engine_.cache_shape(); }
  int64_t max_step_tokens() const override { return engine_.max_step_tokens(); }
  int64_t max_sequences() const override { return engine_.max_sequences(); }

 private:
  engine::Engine& engine_;
  LogitsLedger& ledger_;
  engine::StepPlan plan_;
  int64_t largest_batch_ = 0;
  std::vector<std::vector<float>> logits_;  // by sequence of the plan
};

}  // namespace nibble

#endif  // NIBBLE_TESTS_LAW1_LOGITS_LEDGER_H_
