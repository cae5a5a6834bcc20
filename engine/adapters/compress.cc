#include "engine/adapters/compress.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/layer_products.h"
#include "engine/weights/tensor_table.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Rows of both, decoded one at a time into memory that lasts.
class RowPair {
 public:
  RowPair(const Tensor& base, const Tensor& tuned)
      : base_(base), tuned_(tuned), base_row_(static_cast<size_t>(base.cols())), tuned_row_(base_row_.size()) {}

  void Decode(int64_t row) {
    DecodeRow(base_, row, absl::MakeSpan(base_row_));
    DecodeRow(tuned_, row, absl::MakeSpan(tuned_row_));
  }
  // The difference of the row, in place of the fine-tune's.
  absl::Span<float> Difference(int64_t row) {
    Decode(row);
    for (size_t i = 0; i < base_row_.size(); ++i) tuned_row_[i] -= base_row_[i];
    return absl::MakeSpan(tuned_row_);
  }
  // Whether both rows are one once they are rounded to BF16, as checkpoints are.
  bool EqualAsBf16() const {
    for (size_t i = 0; i < base_row_.size(); ++i) {
      if (RoundToBf16(base_row_[i]) != RoundToBf16(tuned_row_[i])) return false;
    }
    return true;
  }

 private:
  // To nearest, ties to even.
  static uint32_t RoundToBf16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  }

  const Tensor &base_, &tuned_;
  std::vector<float> base_row_, tuned_row_;
};

absl::Status NotFinite(const Tensor& tensor) {
  return absl::FailedPreconditionError("tensor " + Quoted(tensor.name) + ": a difference is not finite");
}

bool IsChanged(const Tensor& base, const Tensor& tuned) {
  RowPair pair(base, tuned);
  for (int64_t row = 0; row < base.rows(); ++row) {
    pair.Decode(row);
    if (!pair.EqualAsBf16()) return true;
  }
  return false;
}

// Writes the signs of one row and returns the sum of its magnitudes.
double SetSigns(absl::Span<const float> values, absl::Span<uint32_t> words) {
  std::fill(words.begin(), words.end(), 0u);
  double sum = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] < 0.0f)) words[i / 32] |= uint32_t{1} << (i % 32);
    sum += std::fabs(static_cast<double>(values[i]));
  }
  return sum;
}

// What the planes before `plane` leave of a row: their scales are set.
void Subtract(const SignDelta& delta, int64_t plane, int64_t row, absl::Span<float> values) {
  for (int64_t p = 0; p < plane; ++p) delta.AddSigns(p, row, -delta.ScaleOf(p, row), values);
}

absl::StatusOr<SignDelta> CompressSigns(const Tensor& base, const Tensor& tuned, const CompressOptions& options) {
  SignDelta delta(options.planes, base.rows(), (base.cols() + 31) / 32, options.scale_per_row);
  for (int64_t plane = 0; plane < options.planes; ++plane) {
    NIBBLE_RETURN_IF_ERROR(FillPlane(base, tuned, plane, &delta));
  }
  return delta;
}

absl::StatusOr<CodeDelta> CompressCodes(const Tensor& base, const Tensor& tuned) {
  CodeDelta delta(base.rows(), base.cols());
  RowPair pair(base, tuned);
  for (int64_t row = 0; row < base.rows(); ++row) {
    const absl::Span<const float> values = pair.Difference(row);
    for (const float value : values) {
      if (!std::isfinite(value)) return NotFinite(base);
    }
    delta.SetRow(row, values);
  }
  return delta;
}

absl::Status CheckSameTensors(const WeightSource& base, const WeightSource& tuned) {
  for (const Tensor& tensor : base.tensors()) {
    const Tensor* const other = tuned.Find(tensor.name);
    const std::string subject = "tensor " + Quoted(tensor.name);
    if (other == nullptr) return absl::FailedPreconditionError(subject + " is in the base alone");
    if (other->shape != tensor.shape) {
      return absl::FailedPreconditionError(subject + " has shape " + ShapeText(other->shape) + ", the base's " +
                                           ShapeText(tensor.shape));
    }
  }
  for (const Tensor& tensor : tuned.tensors()) {
    if (base.Find(tensor.name) == nullptr) {
      return absl::FailedPreconditionError("tensor " + Quoted(tensor.name) + " is in the fine-tune alone");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status FillPlane(const Tensor& base, const Tensor& tuned, int64_t plane, SignDelta* delta) {
  RowPair pair(base, tuned);
  const absl::Span<float> scales = delta->mutable_scales().subspan(static_cast<size_t>(plane * delta->scale_rows()));
  double sum = 0.0;
  for (int64_t row = 0; row < base.rows(); ++row) {
    const absl::Span<float> values = pair.Difference(row);
    Subtract(*delta, plane, row, values);
    const double row_sum = SetSigns(values, delta->MutableSignsOf(plane, row));
    if (!std::isfinite(row_sum)) return NotFinite(base);
    sum += row_sum;
    if (delta->scale_rows() > 1) scales[static_cast<size_t>(row)] = static_cast<float>(row_sum / base.cols());
  }
  if (delta->scale_rows() == 1) scales[0] = static_cast<float>(sum / static_cast<double>(base.rows() * base.cols()));
  return absl::OkStatus();
}

void PlaneTarget(const Tensor& base, const Tensor& tuned, int64_t plane, const SignDelta& delta, int64_t row,
                 absl::Span<float> difference) {
  RowPair pair(base, tuned);
  const absl::Span<const float> values = pair.Difference(row);
  std::copy(values.begin(), values.end(), difference.begin());
  Subtract(delta, plane, row, difference);
}

absl::StatusOr<DeltaFile> CompressDelta(const WeightSource& base, const WeightSource& tuned,
                                        const CompressOptions& options,
                                        const std::function<void(int64_t done, int64_t all)>& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckNotRotated(base));
  NIBBLE_RETURN_IF_ERROR(CheckSameTensors(base, tuned));
  DeltaFile file;
  file.provenance.base_sha256 = ModelSha256(base);
  file.provenance.tuned_sha256 = ModelSha256(tuned);
  int64_t done = 0;
  for (const Tensor& tensor : base.tensors()) {
    progress(done++, static_cast<int64_t>(base.tensors().size()));
    const Tensor& other = *tuned.Find(tensor.name);
    if (!IsChanged(tensor, other)) continue;
    if (IsProjection(tensor.name)) {
      NIBBLE_ASSIGN_OR_RETURN(SignDelta delta, CompressSigns(tensor, other, options));
      file.signs.emplace(tensor.name, std::move(delta));
    } else {
      NIBBLE_ASSIGN_OR_RETURN(CodeDelta delta, CompressCodes(tensor, other));
      file.codes.emplace(tensor.name, std::move(delta));
    }
  }
  return file;
}

double ResidualShare(const Tensor& base, const Tensor& tuned, const RowDelta* delta) {
  RowPair pair(base, tuned);
  std::vector<float> approximation(static_cast<size_t>(base.cols()));
  double left = 0.0, all = 0.0;
  for (int64_t row = 0; row < base.rows(); ++row) {
    const absl::Span<const float> difference = pair.Difference(row);
    std::fill(approximation.begin(), approximation.end(), 0.0f);
    if (delta != nullptr) delta->AddTo(row, absl::MakeSpan(approximation));
    for (size_t i = 0; i < difference.size(); ++i) {
      const double value = difference[i], rest = value - approximation[i];
      all += value * value;
      left += rest * rest;
    }
  }
  return all > 0.0 ? std::sqrt(left / all) : 0.0;
}

}  // namespace nibble::engine
