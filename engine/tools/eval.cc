#include "engine/tools/eval.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/tools/side_by_side.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// The reference is the first, whether or not it is a row.
absl::Status AddModes(const OpenedModel& model, const std::vector<RunMode>& wanted, SideBySide* readers) {
  std::vector<RunMode> modes = {ReferenceMode()};
  for (const RunMode& mode : wanted) {
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  for (const RunMode& mode : modes) NIBBLE_RETURN_IF_ERROR(readers->Add(model, mode));
  return absl::OkStatus();
}

EvalRow RowOf(const RunMode& mode, const SideBySide& readers) {
  const SideBySide::Reader& reader = **std::find_if(readers.readers().begin(), readers.readers().end(),
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
  SideBySide readers(options.chunks.context, options.second_half ? options.chunks.context / 2 : 0);
  NIBBLE_RETURN_IF_ERROR(AddModes(model, options.modes, &readers));
  const int64_t all = static_cast<int64_t>(chunks.size()) * readers.steps_per_chunk();
  int64_t done = 0;
  for (const std::vector<int32_t>& chunk : chunks) {
    NIBBLE_RETURN_IF_ERROR(readers.RunChunk(chunk, [&] { progress(++done, all); }));
  }
  std::vector<EvalRow> rows;
  for (const RunMode& mode : options.modes) rows.push_back(RowOf(mode, readers));
  return rows;
}

}  // namespace nibble::engine
