#include "engine/tools/side_by_side.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::Status Read(SideBySide::Reader& reader, absl::Span<const int32_t> tokens, int64_t rows) {
  const auto start = std::chrono::steady_clock::now();
  const bool finite = reader.sequence->AppendForLogits(tokens, rows, reader.logits.data());
  reader.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (finite) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a logit is not finite: weights ", reader.mode.weights, ", activations ",
                                          reader.mode.activations, ", kv ", reader.mode.kv));
}

absl::Span<const float> RowOf(const SideBySide::Reader& reader, int64_t row) {
  const auto vocab = static_cast<size_t>(reader.engine->vocab_size());
  return absl::MakeConstSpan(reader.logits).subspan(static_cast<size_t>(row) * vocab, vocab);
}

}  // namespace

absl::Status SideBySide::Add(const OpenedModel& model, const RunMode& mode) {
  auto reader = std::make_unique<Reader>(model.file.config.vocab_size);
  reader->mode = mode;
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions options, OptionsFor(mode));
  options.step_tokens = kStepTokens;
  options.max_sequences = 1;
  NIBBLE_ASSIGN_OR_RETURN(reader->engine, EngineWithPages(options, model, kv::PagesFor(context_)));
  NIBBLE_ASSIGN_OR_RETURN(reader->adapter, AdapterFor(*reader->engine, options, model));
  reader->sequence = std::make_unique<SoloSequence>(*reader->engine, context_);
  reader->sequence->set_adapter(reader->adapter.get());
  reader->logits.resize(static_cast<size_t>(kStepTokens * model.file.config.vocab_size));
  readers_.push_back(std::move(reader));
  return absl::OkStatus();
}

absl::Status SideBySide::RunChunk(absl::Span<const int32_t> chunk, const std::function<void()>& step_done) {
  for (const auto& reader : readers_) reader->sequence->Rewind(0);
  const int64_t size = static_cast<int64_t>(chunk.size());
  for (int64_t first = 0; first < size; first += kStepTokens) {
    NIBBLE_RETURN_IF_ERROR(RunStep(chunk, first, std::min(first + kStepTokens, size)));
    step_done();
  }
  return absl::OkStatus();
}

absl::Status SideBySide::RunStep(absl::Span<const int32_t> chunk, int64_t first, int64_t last) {
  const int64_t from = std::max(first, first_scored_);  // the first position of the step whose logits are wanted
  const int64_t rows = std::max<int64_t>(0, last - from);
  const auto tokens = chunk.subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
  for (const auto& reader : readers_) NIBBLE_RETURN_IF_ERROR(Read(*reader, tokens, rows));
  // The last position of a chunk has no token that follows it.
  const int64_t last_scored = std::min(last, static_cast<int64_t>(chunk.size()) - 1);
  for (int64_t position = from; position < last_scored; ++position) {
    Score(position - from, chunk[static_cast<size_t>(position) + 1]);
  }
  return absl::OkStatus();
}

void SideBySide::Score(int64_t row, int32_t target) {
  for (const auto& reader : readers_) reader->fidelity.Add(RowOf(*reader, row), RowOf(*readers_[0], row), target);
}

}  // namespace nibble::engine
