#include "engine/tools/eval.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tools/fidelity.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Tokens run at once: logits of as many positions are held per mode.
constexpr int64_t kStepTokens = 128;

// One mode at work.
struct Runner {
  RunMode mode;
  std::unique_ptr<CpuEngine> engine;
  std::unique_ptr<SoloSequence> sequence;
  std::vector<float> logits;  // [kStepTokens, vocab], of the rows of the current step that are scored
  Fidelity fidelity;
  double seconds = 0.0;

  explicit Runner(int64_t vocab_size) : fidelity(vocab_size) {}
};

absl::StatusOr<std::unique_ptr<Runner>> MakeRunner(const OpenedModel& model, const RunMode& mode, int64_t context) {
  auto runner = std::make_unique<Runner>(model.file.config.vocab_size);
  runner->mode = mode;
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions options, OptionsFor(mode));
  options.step_tokens = kStepTokens;
  options.max_sequences = 1;
  NIBBLE_ASSIGN_OR_RETURN(runner->engine, EngineWithPages(options, model, kv::PagesFor(context)));
  runner->sequence = std::make_unique<SoloSequence>(*runner->engine, context);
  runner->logits.resize(static_cast<size_t>(kStepTokens * model.file.config.vocab_size));
  return runner;
}

absl::Status RunStep(Runner& runner, absl::Span<const int32_t> tokens, int64_t rows) {
  const auto start = std::chrono::steady_clock::now();
  const bool finite = runner.sequence->AppendForLogits(tokens, rows, runner.logits.data());
  runner.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (finite) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a logit is not finite: weights ", runner.mode.weights, ", activations ",
                                          runner.mode.activations, ", kv ", runner.mode.kv));
}

class Evaluation {
 public:
  Evaluation(const EvalOptions& options, int64_t vocab_size) : options_(options), vocab_size_(vocab_size) {}

  // The reference is runners_[0], whether or not it is a row.
  absl::Status Open(const OpenedModel& model) {
    std::vector<RunMode> modes = {ReferenceMode()};
    for (const RunMode& mode : options_.modes) {
      if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
    }
    for (const RunMode& mode : modes) {
      NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<Runner> runner, MakeRunner(model, mode, options_.chunks.context));
      runners_.push_back(std::move(runner));
    }
    return absl::OkStatus();
  }

  absl::Status RunChunk(absl::Span<const int32_t> chunk, const std::function<void()>& step_done) {
    for (const auto& runner : runners_) runner->sequence->Rewind(0);
    const int64_t size = static_cast<int64_t>(chunk.size());
    for (int64_t first = 0; first < size; first += kStepTokens) {
      NIBBLE_RETURN_IF_ERROR(RunStepOfAll(chunk, first, std::min(first + kStepTokens, size)));
      step_done();
    }
    return absl::OkStatus();
  }

  std::vector<EvalRow> Rows() const {
    std::vector<EvalRow> rows;
    for (const RunMode& mode : options_.modes) {
      const Runner& runner = **std::find_if(runners_.begin(), runners_.end(),
                                            [&mode](const auto& candidate) { return candidate->mode == mode; });
      const Fidelity& fidelity = runner.fidelity;
      rows.push_back({mode, runner.engine->kv_bits(), fidelity.perplexity(), fidelity.kl_divergence(), fidelity.top1(),
                      fidelity.LogitsSha256(), fidelity.tokens(), runner.seconds});
    }
    return rows;
  }

 private:
  absl::Status RunStepOfAll(absl::Span<const int32_t> chunk, int64_t first, int64_t last) {
    const int64_t first_scored = options_.second_half ? options_.chunks.context / 2 : 0;
    const int64_t from = std::max(first, first_scored);  // the first position of the step whose logits are wanted
    const int64_t rows = std::max<int64_t>(0, last - from);
    const auto tokens = chunk.subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
    for (const auto& runner : runners_) NIBBLE_RETURN_IF_ERROR(RunStep(*runner, tokens, rows));
    // The last position of a chunk has no token that follows it.
    const int64_t last_scored = std::min(last, static_cast<int64_t>(chunk.size()) - 1);
    for (int64_t position = from; position < last_scored; ++position) {
      Score(position - from, chunk[static_cast<size_t>(position) + 1]);
    }
    return absl::OkStatus();
  }

  void Score(int64_t row, int32_t target) {
    for (const auto& runner : runners_) {
      runner->fidelity.Add(RowOf(*runner, row), RowOf(*runners_[0], row), target);
    }
  }

  absl::Span<const float> RowOf(const Runner& runner, int64_t row) const {
    return absl::MakeConstSpan(runner.logits)
        .subspan(static_cast<size_t>(row * vocab_size_), static_cast<size_t>(vocab_size_));
  }

  const EvalOptions& options_;
  const int64_t vocab_size_;
  std::vector<std::unique_ptr<Runner>> runners_;
};

absl::Status CheckContext(const OpenedModel& model, const EvalOptions& options) {
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("context", options.chunks.context, 4));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", options.chunks.most, 1));
  if (options.chunks.context <= model.file.config.context_length) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--context=", options.chunks.context, ": the model's context is ",
                                                 model.file.config.context_length));
}

}  // namespace

absl::StatusOr<std::vector<EvalRow>> Evaluate(const OpenedModel& model, absl::Span<const int32_t> ids,
                                              const EvalOptions& options, const Progress& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckContext(model, options));
  NIBBLE_ASSIGN_OR_RETURN(const auto chunks, CutChunks(ids, model.tokenizer->data(), options.chunks));
  Evaluation evaluation(options, model.file.config.vocab_size);
  NIBBLE_RETURN_IF_ERROR(evaluation.Open(model));
  const int64_t steps_per_chunk = (options.chunks.context + kStepTokens - 1) / kStepTokens;
  const int64_t all = static_cast<int64_t>(chunks.size()) * steps_per_chunk;
  int64_t done = 0;
  for (const std::vector<int32_t>& chunk : chunks) {
    NIBBLE_RETURN_IF_ERROR(evaluation.RunChunk(chunk, [&] { progress(++done, all); }));
  }
  return evaluation.Rows();
}

}  // namespace nibble::engine
