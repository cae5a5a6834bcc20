// Drives one sequence through an engine without a scheduler: a fixed run of pages, one step at a time.
#ifndef NIBBLE_ENGINE_TOOLS_SOLO_SEQUENCE_H_
#define NIBBLE_ENGINE_TOOLS_SOLO_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/engine.h"

namespace nibble::engine {

class SoloSequence {
 public:
  // Owns pages [first_page, first_page + PagesFor(capacity_tokens)) of the engine, which must outlive it and have a raw
  // slot for every page (EngineOptions::kv_pages) or none.
  SoloSequence(Engine& engine, int64_t capacity_tokens, kv::PageId first_page = 0);

  // Every step from now on runs with the fine-tune, which must outlive them; nullptr: the model alone.
  void set_adapter(const Adapter* adapter) { adapter_ = adapter; }
  int64_t position() const { return position_; }
  void Rewind(int64_t position) { position_ = position; }

  // Appends tokens in steps as large as the engine takes; `sample`, where given, draws from the last one's logits.
  // Returns the last step's result. REQUIRES: tokens fit the capacity; not empty.
  SequenceResult Append(absl::Span<const int32_t> tokens, const SampleRequest* sample);

  // Appends tokens in one step and writes the logits of the last `rows` of them, [rows, vocab_size]. False if one was
  // not finite. REQUIRES: at most max_step_tokens.
  bool AppendForLogits(absl::Span<const int32_t> tokens, int64_t rows, float* logits);

  // The step that Append would run, for callers that batch several sequences. It points into `this`.
  SequenceStep StepFor(absl::Span<const int32_t> tokens, const SampleRequest* sample) const;
  void Advance(int64_t tokens) { position_ += tokens; }

 private:
  Engine& engine_;
  const Adapter* adapter_ = nullptr;
  std::vector<kv::PageId> pages_;
  std::vector<kv::RawSlot> raw_slots_;
  int64_t position_ = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_SOLO_SEQUENCE_H_
