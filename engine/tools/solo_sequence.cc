#include "engine/tools/solo_sequence.h"

#include <algorithm>
#include <numeric>

#include "kvcache/base/check.h"

namespace nibble::engine {

SoloSequence::SoloSequence(Engine& engine, int64_t capacity_tokens, kv::PageId first_page)
    : engine_(engine), pages_(static_cast<size_t>(kv::PagesFor(capacity_tokens))) {
  std::iota(pages_.begin(), pages_.end(), first_page);
  const kv::CacheShape shape = engine.cache_shape();
  NIBBLE_CHECK(first_page + static_cast<int64_t>(pages_.size()) <= shape.num_pages);
  if (shape.in_place()) return;
  NIBBLE_CHECK(shape.raw_slots == shape.num_pages);
  raw_slots_.assign(pages_.begin(), pages_.end());
}

SequenceStep SoloSequence::StepFor(absl::Span<const int32_t> tokens, const SampleRequest* sample) const {
  SequenceStep step;
  step.tokens = tokens;
  step.position = position_;
  step.adapter = adapter_;
  step.pages = pages_;
  step.raw_slots = raw_slots_;
  step.logit_rows = sample != nullptr ? 1 : 0;
  step.sample = sample;
  return step;
}

SequenceResult SoloSequence::Append(absl::Span<const int32_t> tokens, const SampleRequest* sample) {
  NIBBLE_CHECK(!tokens.empty());
  SequenceResult result;
  while (!tokens.empty()) {
    const auto now = tokens.first(std::min(tokens.size(), static_cast<size_t>(engine_.max_step_tokens())));
    tokens.remove_prefix(now.size());
    const StepPlan plan = {{StepFor(now, tokens.empty() ? sample : nullptr)}};
    engine_.Launch(plan);
    result = engine_.Await().sequences[0];
    position_ += static_cast<int64_t>(now.size());
  }
  return result;
}

bool SoloSequence::AppendForLogits(absl::Span<const int32_t> tokens, int64_t rows, float* logits) {
  SequenceStep step = StepFor(tokens, nullptr);
  step.logit_rows = rows;
  step.logits_out = logits;
  const StepPlan plan = {{step}};
  engine_.Launch(plan);
  position_ += static_cast<int64_t>(tokens.size());
  return !engine_.Await().sequences[0].faulted;
}

}  // namespace nibble::engine
