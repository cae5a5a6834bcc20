// Models or modes that read the same tokens step by step, each compared with the first: what `nibble eval` and
// `nibble delta verify` measure with.
#ifndef NIBBLE_ENGINE_TOOLS_SIDE_BY_SIDE_H_
#define NIBBLE_ENGINE_TOOLS_SIDE_BY_SIDE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/tools/fidelity.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"
#include "engine/tools/solo_sequence.h"

namespace nibble::engine {

class SideBySide {
 public:
  // Tokens run at once: logits of as many positions are held for each reader.
  static constexpr int64_t kStepTokens = 128;

  // One model in one mode.
  struct Reader {
    RunMode mode;
    std::unique_ptr<CpuEngine> engine;
    std::unique_ptr<const Adapter> adapter;
    std::unique_ptr<SoloSequence> sequence;
    std::vector<float> logits;  // [kStepTokens, vocab], of the rows of the current step that are scored
    Fidelity fidelity;          // to the first reader
    double seconds = 0.0;       // in its engine

    explicit Reader(int64_t vocab_size) : fidelity(vocab_size) {}
  };

  // Chunks have `context` tokens, which are scored from position `first_scored` on.
  SideBySide(int64_t context, int64_t first_scored) : context_(context), first_scored_(first_scored) {}

  // The first added is the reference. REQUIRES: all have one vocabulary; `model` outlives the readers.
  absl::Status Add(const OpenedModel& model, const RunMode& mode);
  int64_t steps_per_chunk() const { return (context_ + kStepTokens - 1) / kStepTokens; }
  // INTERNAL, naming the mode, if a logit is not finite.
  absl::Status RunChunk(absl::Span<const int32_t> chunk, const std::function<void()>& step_done);

  const std::vector<std::unique_ptr<Reader>>& readers() const { return readers_; }

 private:
  absl::Status RunStep(absl::Span<const int32_t> chunk, int64_t first, int64_t last);
  // `row` of the current step's logits.
  void Score(int64_t row, int32_t target);

  const int64_t context_, first_scored_;
  std::vector<std::unique_ptr<Reader>> readers_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_SIDE_BY_SIDE_H_
