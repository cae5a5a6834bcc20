#include "engine/tools/eval.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "engine/tools/side_by_side.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// The model's reader in that mode, or nullptr. The first is the reference, and of a base where there is one.
const SideBySide::Reader* FindReader(const SideBySide& readers, const EvalOptions& options, const RunMode& mode) {
  for (size_t i = options.base == nullptr ? 0 : 1; i < readers.readers().size(); ++i) {
    if (readers.readers()[i]->mode == mode) return readers.readers()[i].get();
  }
  return nullptr;
}

absl::Status AddModes(const OpenedModel& model, const EvalOptions& options, SideBySide* readers) {
  NIBBLE_RETURN_IF_ERROR(readers->Add(options.base == nullptr ? model : *options.base, ReferenceMode()));
  for (const RunMode& mode : options.modes) {
    if (FindReader(*readers, options, mode) == nullptr) NIBBLE_RETURN_IF_ERROR(readers->Add(model, mode));
  }
  return absl::OkStatus();
}

EvalRow RowOf(const SideBySide::Reader& reader) {
  const Fidelity& fidelity = reader.fidelity;
  return {reader.mode,     reader.engine->kv_bits(), fidelity.perplexity(), fidelity.kl_divergence(),
          fidelity.top1(), fidelity.LogitsSha256(),  fidelity.tokens(),     reader.seconds};
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
  std::vector<EvalRow> rows;
  for (const RunMode& mode : options.modes) rows.push_back(RowOf(*FindReader(readers, options, mode)));
  return rows;
}

}  // namespace nibble::engine
