// What a fine-tune adds to the weights of one tensor, in few bits. Rows are in the order of Tensor::row.
//
// Signs (BitDelta, arXiv:2402.10193, section 3.1): W_tuned - W_base is approximated by scale * sign, one bit an
// element; a second plane does the same to what the first leaves. Codes: int8 with one scale a row, for the tensors
// that are no projections (embeddings, head, norms, biases).
#ifndef NIBBLE_ENGINE_ADAPTERS_WEIGHT_DELTAS_H_
#define NIBBLE_ENGINE_ADAPTERS_WEIGHT_DELTAS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

inline constexpr int64_t kMaxSignPlanes = 2;  // at least 1

class SignDelta : public RowDelta {
 public:
  // row_words: ceil(cols / 32).
  SignDelta(int64_t planes, int64_t rows, int64_t row_words, bool scale_per_row);

  int64_t planes() const { return planes_; }
  int64_t rows() const { return rows_; }
  int64_t row_words() const { return row_words_; }
  int64_t scale_rows() const { return scale_rows_; }

  // [planes, rows, row_words]; bit i of word w is input 32 w + i, 1 where the sign is +. Bits past the last input are
  // 0.
  absl::Span<const uint32_t> signs() const { return signs_; }
  absl::Span<uint32_t> mutable_signs() { return absl::MakeSpan(signs_); }
  absl::Span<const uint32_t> SignsOf(int64_t plane, int64_t row) const;
  absl::Span<uint32_t> MutableSignsOf(int64_t plane, int64_t row);
  // [planes, scale_rows]: 1 or as many as rows.
  absl::Span<const float> scales() const { return scales_; }
  absl::Span<float> mutable_scales() { return absl::MakeSpan(scales_); }
  float ScaleOf(int64_t plane, int64_t row) const {
    return scales_[static_cast<size_t>(plane * scale_rows_ + (scale_rows_ > 1 ? row : 0))];
  }

  // values += factor * sign, of one plane; its own scale does not count.
  void AddSigns(int64_t plane, int64_t row, float factor, absl::Span<float> values) const;
  // Plane after plane: values += scale * sign.
  void AddTo(int64_t row, absl::Span<float> values) const override;

 private:
  int64_t planes_, rows_, row_words_, scale_rows_;
  std::vector<uint32_t> signs_;
  std::vector<float> scales_;
};

class CodeDelta : public RowDelta {
 public:
  CodeDelta(int64_t rows, int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  absl::Span<const int8_t> codes() const { return codes_; }  // [rows, cols]
  absl::Span<int8_t> mutable_codes() { return absl::MakeSpan(codes_); }
  absl::Span<const float> scales() const { return scales_; }  // [rows]
  absl::Span<float> mutable_scales() { return absl::MakeSpan(scales_); }

  // Rounds one row: scale is the largest magnitude / 127. REQUIRES: the values are finite.
  void SetRow(int64_t row, absl::Span<const float> values);
  void AddTo(int64_t row, absl::Span<float> values) const override;

 private:
  int64_t rows_, cols_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_ADAPTERS_WEIGHT_DELTAS_H_
