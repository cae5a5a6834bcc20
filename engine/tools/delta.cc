#include "engine/tools/delta.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/adapters/compress.h"
#include "engine/tools/fidelity.h"
#include "engine/tools/flags.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int64_t kStepTokens = 128;

std::string KindOf(const std::string& name) {
  return name.starts_with("blk.") ? name.substr(name.find('.', 4) + 1) : name;
}

void AddPart(const std::string& name, int64_t bytes, const RowDelta& delta, const WeightSource& base,
             const WeightSource* tuned, std::map<std::string, DeltaPart>* parts) {
  DeltaPart& part = (*parts)[KindOf(name)];
  const Tensor& tensor = *base.Find(name);
  ++part.tensors;
  part.elements += tensor.rows() * tensor.cols();
  part.bytes += bytes;
  if (tuned != nullptr) part.worst_left = std::max(part.worst_left, ResidualShare(tensor, *tuned->Find(name), &delta));
}

// One of the two models at work.
struct Reader {
  std::unique_ptr<CpuEngine> engine;
  std::unique_ptr<SoloSequence> sequence;
  std::vector<float> logits;  // [kStepTokens, vocab]
};

absl::StatusOr<Reader> MakeReader(const OpenedModel& model, int64_t context) {
  Reader reader;
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions options, OptionsFor(ReferenceMode()));
  options.step_tokens = kStepTokens;
  options.max_sequences = 1;
  NIBBLE_ASSIGN_OR_RETURN(reader.engine, EngineWithPages(options, model, kv::PagesFor(context)));
  reader.sequence = std::make_unique<SoloSequence>(*reader.engine, context);
  reader.logits.resize(static_cast<size_t>(kStepTokens * model.file.config.vocab_size));
  return reader;
}

absl::Status Read(absl::Span<const int32_t> tokens, Reader* reader) {
  const auto rows = static_cast<int64_t>(tokens.size());
  if (reader->sequence->AppendForLogits(tokens, rows, reader->logits.data())) return absl::OkStatus();
  return absl::FailedPreconditionError("a logit is not finite");
}

// Adds the positions of one step from `first_scored` on, each with the token that follows it.
void AddStep(absl::Span<const int32_t> chunk, int64_t first, int64_t last, int64_t first_scored, const Reader& merged,
             const Reader& tuned, Fidelity* merged_fidelity, Fidelity* tuned_fidelity) {
  const auto vocab = static_cast<size_t>(tuned.engine->vocab_size());
  const auto row = [&](const Reader& reader, int64_t position) {
    return absl::MakeConstSpan(reader.logits).subspan(static_cast<size_t>(position - first) * vocab, vocab);
  };
  const int64_t end = std::min(last, static_cast<int64_t>(chunk.size()) - 1);
  for (int64_t position = std::max(first, first_scored); position < end; ++position) {
    const int32_t target = chunk[static_cast<size_t>(position) + 1];
    tuned_fidelity->Add(row(tuned, position), row(tuned, position), target);
    merged_fidelity->Add(row(merged, position), row(tuned, position), target);
  }
}

}  // namespace

std::map<std::string, DeltaPart> PartsOf(const DeltaFile& delta, const WeightSource& base, const WeightSource* tuned) {
  std::map<std::string, DeltaPart> parts;
  for (const auto& [name, signs] : delta.signs) {
    const auto bytes = static_cast<int64_t>(4 * (signs.signs().size() + signs.scales().size()));
    AddPart(name, bytes, signs, base, tuned, &parts);
  }
  for (const auto& [name, codes] : delta.codes) {
    const auto bytes = static_cast<int64_t>(codes.codes().size() + 4 * codes.scales().size());
    AddPart(name, bytes, codes, base, tuned, &parts);
  }
  return parts;
}

void PrintParts(const std::map<std::string, DeltaPart>& parts, std::ostream& out) {
  out << absl::StrFormat("%-28s %7s %12s %12s %10s %8s\n", "part", "tensors", "elements", "bytes", "of bf16", "left");
  DeltaPart sum;
  const auto print = [&out](const std::string& name, const DeltaPart& part) {
    out << absl::StrFormat(
        "%-28s %7d %12d %12d %9.2f%% %7.1f%%\n", name, part.tensors, part.elements, part.bytes,
        50.0 * static_cast<double>(part.bytes) / static_cast<double>(std::max<int64_t>(1, part.elements)),
        100.0 * part.worst_left);
  };
  for (const auto& [name, part] : parts) {
    print(name, part);
    sum.tensors += part.tensors;
    sum.elements += part.elements;
    sum.bytes += part.bytes;
    sum.worst_left = std::max(sum.worst_left, part.worst_left);
  }
  print("all", sum);
}

absl::StatusOr<DeltaFidelity> CompareDelta(const OpenedModel& base, const OpenedModel& tuned, const DeltaFile& delta,
                                           absl::Span<const int32_t> ids, const ChunkOptions& options,
                                           const std::function<void(int64_t done, int64_t all)>& progress) {
  NIBBLE_ASSIGN_OR_RETURN(const auto chunks, CutChunks(ids, tuned.tokenizer->data(), options));
  OpenedModel with_delta;
  with_delta.file = {base.file.config, base.file.tokenizer, MergedWeights(*base.file.weights, delta)};
  NIBBLE_ASSIGN_OR_RETURN(Reader merged_reader, MakeReader(with_delta, options.context));
  NIBBLE_ASSIGN_OR_RETURN(Reader tuned_reader, MakeReader(tuned, options.context));
  Fidelity merged_fidelity(base.file.config.vocab_size), tuned_fidelity(base.file.config.vocab_size);
  for (size_t i = 0; i < chunks.size(); ++i) {
    merged_reader.sequence->Rewind(0);
    tuned_reader.sequence->Rewind(0);
    const absl::Span<const int32_t> chunk = chunks[i];
    for (int64_t first = 0; first < options.context; first += kStepTokens) {
      progress(static_cast<int64_t>(i) * options.context + first,
               static_cast<int64_t>(chunks.size()) * options.context);
      const int64_t last = std::min(first + kStepTokens, options.context);
      const auto tokens = chunk.subspan(static_cast<size_t>(first), static_cast<size_t>(last - first));
      NIBBLE_RETURN_IF_ERROR(Read(tokens, &merged_reader));
      NIBBLE_RETURN_IF_ERROR(Read(tokens, &tuned_reader));
      AddStep(chunk, first, last, options.context / 2, merged_reader, tuned_reader, &merged_fidelity, &tuned_fidelity);
    }
  }
  // Of two models that are one, rounding alone may fall below zero.
  return DeltaFidelity{std::max(0.0, merged_fidelity.kl_divergence()), merged_fidelity.top1(),
                       merged_fidelity.perplexity(), tuned_fidelity.perplexity(), merged_fidelity.tokens()};
}

}  // namespace nibble::engine
