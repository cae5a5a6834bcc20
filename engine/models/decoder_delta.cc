// The part of Decoder that knows fine-tunes.
#include <utility>

#include "absl/algorithm/container.h"
#include "engine/models/decoder.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

template <typename Delta>
const Delta* FindDelta(const std::map<std::string, Delta, std::less<>>& deltas, const std::string& name) {
  const auto found = deltas.find(name);
  return found == deltas.end() ? nullptr : &found->second;
}

// What the delta makes of a vector's parts, one after another, or adds to them. Empty: nothing.
std::vector<float> VectorOf(const DeltaFile& file, absl::Span<const Tensor* const> parts, bool whole) {
  std::vector<float> values;
  bool changed = false;
  for (const Tensor* part : parts) {
    std::vector<float> piece(static_cast<size_t>(part->cols()));
    if (whole) DecodeRow(*part, 0, absl::MakeSpan(piece));
    if (const CodeDelta* codes = FindDelta(file.codes, part->name); codes != nullptr) {
      codes->AddTo(0, absl::MakeSpan(piece));
      changed = true;
    }
    values.insert(values.end(), piece.begin(), piece.end());
  }
  if (!changed) values.clear();
  return values;
}

int64_t BytesOf(const absl::flat_hash_map<const float*, std::vector<float>>& vectors) {
  int64_t bytes = 0;
  for (const auto& [base, values] : vectors) bytes += static_cast<int64_t>(values.size() * sizeof(float));
  return bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MatrixDelta>> Decoder::LoadMatrixDelta(const DeltaFile& file,
                                                                      absl::Span<const Tensor* const> parts,
                                                                      absl::FunctionRef<void()> pause) const {
  std::vector<PartDelta> deltas;
  bool changed = false;
  for (const Tensor* part : parts) {
    deltas.push_back({part->rows(), FindDelta(file.signs, part->name), FindDelta(file.codes, part->name)});
    changed |= deltas.back().signs != nullptr || deltas.back().codes != nullptr;
  }
  if (!changed) return nullptr;
  return backend_.LoadDelta(deltas, pause);
}

absl::StatusOr<std::unique_ptr<const ModelDelta>> Decoder::LoadDelta(const DeltaFile& file,
                                                                     absl::FunctionRef<void()> pause) const {
  NIBBLE_RETURN_IF_ERROR(CheckNotRotated(source_));
  auto delta = std::make_unique<ModelDelta>();
  delta->layers.resize(static_cast<size_t>(config_.num_layers));
  for (int i = 0; i < config_.num_layers; ++i) {
    for (const LayerProduct& row : LayerProducts()) {
      std::unique_ptr<MatrixDelta>& matrix = delta->layers[i][static_cast<size_t>(row.product)];
      NIBBLE_ASSIGN_OR_RETURN(matrix, LoadMatrixDelta(file, PartsOf(i, row.product), pause));
      if (matrix != nullptr) delta->bytes += matrix->bytes();
    }
  }
  NIBBLE_ASSIGN_OR_RETURN(delta->head, LoadMatrixDelta(file, {head_tensor_}, pause));
  if (delta->head != nullptr) delta->bytes += delta->head->bytes();
  for (const LoadedVector& vector : vectors_) {
    std::vector<float> values = VectorOf(file, vector.parts, /*whole=*/!vector.is_bias);
    if (!values.empty()) (vector.is_bias ? delta->biases : delta->norms)[vector.values.data()] = std::move(values);
  }
  delta->bytes += BytesOf(delta->norms) + BytesOf(delta->biases);
  if (const CodeDelta* codes = FindDelta(file.codes, embedding_->name); codes != nullptr) {
    delta->embedding_codes = std::make_unique<CodeDelta>(*codes);
    delta->embedding = *embedding_;
    delta->embedding->delta = delta->embedding_codes.get();
    delta->bytes += static_cast<int64_t>(codes->codes().size() + codes->scales().size() * sizeof(float));
  }
  return delta;
}

void Decoder::Embed(absl::Span<const int32_t> ids) {
  ForStretches(adapted_, x_.rows, [&](int64_t first, int64_t count, const ModelDelta* delta) {
    const Tensor& table = delta != nullptr && delta->embedding.has_value() ? *delta->embedding : *embedding_;
    backend_.Embed(table, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), embedding_scale_,
                   x_.Rows(first, count));
  });
}

absl::Span<const float> Decoder::NormOf(const ModelDelta* delta, absl::Span<const float> weight) {
  if (delta == nullptr) return weight;
  const auto own = delta->norms.find(weight.data());
  return own == delta->norms.end() ? weight : own->second;
}

void Decoder::ForNorms(absl::Span<const AdaptedRows> adapted, int64_t rows, absl::Span<const float> weight,
                       absl::FunctionRef<void(int64_t, int64_t, absl::Span<const float>)> norm) {
  const bool changed = absl::c_any_of(
      adapted, [&](const AdaptedRows& run) { return NormOf(run.delta, weight).data() != weight.data(); });
  if (!changed) return norm(0, rows, weight);
  ForStretches(adapted, rows, [&](int64_t first, int64_t count, const ModelDelta* delta) {
    norm(first, count, NormOf(delta, weight));
  });
}

absl::Span<const DeltaRows> Decoder::DeltasOf(absl::Span<const AdaptedRows> adapted,
                                              absl::FunctionRef<const MatrixDelta*(const ModelDelta&)> of) {
  delta_rows_.clear();
  for (const AdaptedRows& run : adapted) {
    const MatrixDelta* const delta = of(*run.delta);
    if (delta != nullptr) delta_rows_.push_back({run.first_row, run.num_rows, delta});
  }
  return delta_rows_;
}

absl::Span<const AdaptedRows> Decoder::AdaptedLogits(absl::Span<const int64_t> rows) {
  adapted_logits_.clear();
  size_t next = 0;
  for (const AdaptedRows& run : adapted_) {
    while (next < rows.size() && rows[next] < run.first_row) ++next;
    const size_t first = next;
    while (next < rows.size() && rows[next] < run.first_row + run.num_rows) ++next;
    if (next > first) {
      adapted_logits_.push_back({static_cast<int64_t>(first), static_cast<int64_t>(next - first), run.delta});
    }
  }
  return adapted_logits_;
}

void Decoder::AddBiases(absl::Span<const float> bias) {
  for (const AdaptedRows& run : adapted_) {
    const auto found = run.delta->biases.find(bias.data());
    if (found != run.delta->biases.end()) backend_.AddVector(found->second, qkv_.Rows(run.first_row, run.num_rows));
  }
}

}  // namespace nibble::engine
