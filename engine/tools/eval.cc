#include "engine/tools/eval.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/tools/side_by_side.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// The reference is the first; where it is the model's own it may be a row too.
absl::Status AddModes(const OpenedModel& model, const EvalOptions& options, SideBySide* readers) {
  NIBBLE_RETURN_IF_ERROR(readers->Add(options.base == nullptr ? model : *options.base, ReferenceMode()));
  std::vector<RunMode> modes;
  if (options.base == nullptr) modes.push_back(ReferenceMode());
  for (const RunMode& mode : options.modes) {
    if (std::find(modes.begin(), modes.end(), mode) != modes.end()) continue;
    modes.push_back(mode);
    NIBBLE_RETURN_IF_ERROR(readers->Add(model, mode));
  }
  return absl::OkStatus();
}

EvalRow RowOf(const RunMode& mode, absl::Span<const std::unique_ptr<SideBySide::Reader>> readers) {
  const SideBySide::Reader& reader = **std::find_if(readers.begin(), readers.end(),
                                                    [&mode](const auto& candidate) { return candidate->mode == mode; });
  const Fidelity& fidelity = reader.fidelity;
  return {mode,
          reader.engine->kv_bits(),
          fidelity.perplexity(),
          fidelity.kl_divergence(),
          fidelity.top1(),
          fidelity.LogitsSha256(),
          fidelity.tokens(),
          reader.seconds};
}

absl::Status CheckOptions(const OpenedModel& model, const EvalOptions& options) {
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("context", options.chunks.context, 4));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", options.chunks.most, 1));
  if (options.base != nullptr && options.base->file.config.vocab_size != model.file.config.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("--base=", options.base->path, ": has ",
                                                   options.base->file.config.vocab_size, " tokens, --model has ",
                                                   model.file.config.vocab_size));
  }
  for (const OpenedModel* read : {&model, options.base}) {
    if (read == nullptr || options.chunks.context <= read->file.config.context_length) continue;
    return absl::InvalidArgumentError(absl::StrCat("--context=", options.chunks.context, ": the ",
                                                   read == &model ? "model" : "base", "'s context is ",
                                                   read->file.config.context_length));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<EvalRow>> Evaluate(const OpenedModel& model, absl::Span<const int32_t> ids,
                                              const EvalOptions& options, const Progress& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckOptions(model, options));
  NIBBLE_ASSIGN_OR_RETURN(const auto chunks, CutChunks(ids, model.tokenizer->data(), options.chunks));
  SideBySide readers(options.chunks.context, options.second_half ? options.chunks.context / 2 : 0);
  NIBBLE_RETURN_IF_ERROR(AddModes(model, options, &readers));
  const int64_t all = static_cast<int64_t>(chunks.size()) * readers.steps_per_chunk();
  int64_t done = 0;
  for (const std::vector<int32_t>& chunk : chunks) {
    NIBBLE_RETURN_IF_ERROR(readers.RunChunk(chunk, [&] { progress(++done, all); }));
  }
  const absl::Span<const std::unique_ptr<SideBySide::Reader>> run =
      absl::MakeConstSpan(readers.readers()).subspan(options.base == nullptr ? 0 : 1);
  std::vector<EvalRow> rows;
  for (const RunMode& mode : options.modes) rows.push_back(RowOf(mode, run));
  return rows;
}

}  // namespace nibble::engine
