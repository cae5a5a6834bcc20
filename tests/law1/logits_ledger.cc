#include "tests/law1/logits_ledger.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace nibble {
namespace {

// FNV-1a over the bits: any changed bit changes it.
uint64_t HashBits(const float* values, int64_t count) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    hash = (hash ^ bits) * 0x100000001B3u;
  }
  return hash;
}

}  // namespace

void LogitsLedger::Note(std::vector<int32_t> history, const float* logits, int64_t vocab_size) {
  const uint64_t hash = HashBits(logits, vocab_size);
  const auto [entry, is_new] = hashes_.emplace(std::move(history), hash);
  if (is_new) return;
  ++(entry->second == hash ? confirmations_ : contradictions_);
}

void LedgerEngine::Launch(const engine::StepPlan& plan) {
  plan_ = plan;
  largest_batch_ = std::max(largest_batch_, static_cast<int64_t>(plan.sequences.size()));
  logits_.assign(plan_.sequences.size(), {});
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    engine::SequenceStep& step = plan_.sequences[i];
    if (step.sample == nullptr) continue;
    logits_[i].resize(step.logit_rows * vocab_size());
    step.logits_out = logits_[i].data();
  }
  engine_.Launch(plan_);
}

const engine::StepResult& LedgerEngine::Await() {
  const engine::StepResult& result = engine_.Await();
  for (size_t i = 0; i < plan_.sequences.size(); ++i) {
    const engine::SequenceStep& step = plan_.sequences[i];
    if (step.sample == nullptr) continue;
    std::vector<int32_t> history(step.sample->prompt.begin(), step.sample->prompt.end());
    history.insert(history.end(), step.sample->generated.begin(), step.sample->generated.end());
    ledger_.Note(std::move(history), &logits_[i][(step.logit_rows - 1) * vocab_size()], vocab_size());
  }
  return result;
}

}  // namespace nibble
