#include "engine/tools/delta.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/adapters/compress.h"
#include "engine/tools/flags.h"
#include "engine/tools/side_by_side.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

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
  SideBySide readers(options.context, options.context / 2);
  NIBBLE_RETURN_IF_ERROR(readers.Add(tuned, ReferenceMode()));
  NIBBLE_RETURN_IF_ERROR(readers.Add(with_delta, ReferenceMode()));
  const int64_t all = static_cast<int64_t>(chunks.size()) * readers.steps_per_chunk() * SideBySide::kStepTokens;
  int64_t done = 0;
  for (const std::vector<int32_t>& chunk : chunks) {
    const absl::Status status = readers.RunChunk(chunk, [&] { progress(done += SideBySide::kStepTokens, all); });
    if (!status.ok()) return absl::FailedPreconditionError(status.message());
  }
  const Fidelity &of_tuned = readers.readers()[0]->fidelity, &of_merged = readers.readers()[1]->fidelity;
  // Of two models that are one, rounding alone may fall below zero.
  return DeltaFidelity{std::max(0.0, of_merged.kl_divergence()), of_merged.top1(), of_merged.perplexity(),
                       of_tuned.perplexity(), of_merged.tokens()};
}

}  // namespace nibble::engine
