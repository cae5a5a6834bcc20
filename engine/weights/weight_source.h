// Tensors of a model, apart from what container holds them. A container (a GGUF file, a Hugging Face folder) yields a
// WeightSource, a ModelConfig and a TokenizerData; nothing above knows which container they came from.
//
// Tensor names are GGUF's ("token_embd.weight", "blk.0.attn_q.weight", …), the ecosystem's common tongue.
#ifndef NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_
#define NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/encoding.h"

namespace nibble::engine {

// What is added to the values that a file stores. Does not change while someone reads.
class RowDelta {
 public:
  virtual ~RowDelta() = default;
  // values: [cols], of row `row` in Tensor::row's order.
  virtual void AddTo(int64_t row, absl::Span<float> values) const = 0;
};

struct Tensor {
  std::string name;
  Encoding encoding = Encoding::kF32;
  // Outermost first: a matrix is [rows = outputs, cols = inputs], stored row after row; a vector is [n].
  std::vector<int64_t> shape;
  absl::Span<const std::byte> data;  // owned by the source; at any alignment
  // How many rows (a head's) the data have as two halves one after the other, of which row() takes one each in turn: so
  // Hugging Face's llama checkpoints keep the pairs of Q and K that rotate together. 0: the data are in row()'s order.
  int64_t halved_rows = 0;
  const RowDelta* delta = nullptr;  // of DecodeRow's values; not of row()'s bytes

  int64_t cols() const { return shape.back(); }
  int64_t rows() const;  // product of all but the last
  int64_t row_bytes() const { return cols() / TraitsOf(encoding).block_elements * TraitsOf(encoding).block_bytes; }
  const std::byte* row(int64_t i) const { return data.data() + StoredRow(i) * row_bytes(); }

 private:
  int64_t StoredRow(int64_t i) const {
    if (halved_rows == 0) return i;
    const int64_t in_head = i % halved_rows;
    return i - in_head + in_head % 2 * (halved_rows / 2) + in_head / 2;
  }
};

// The values of one row. REQUIRES: i < tensor.rows(); out: [cols].
inline void DecodeRow(const Tensor& tensor, int64_t i, absl::Span<float> out) {
  TraitsOf(tensor.encoding).decode(tensor.row(i), out);
  if (tensor.delta != nullptr) tensor.delta->AddTo(i, out);
}

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual absl::Span<const Tensor> tensors() const = 0;
  // nullptr if there is none of that name.
  virtual const Tensor* Find(std::string_view name) const = 0;
};

// `owner` keeps alive what the tensors point into; nullptr if the caller does. REQUIRES: the names are distinct.
std::unique_ptr<WeightSource> MakeWeightSource(std::vector<Tensor> tensors, std::shared_ptr<const void> owner);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_WEIGHT_SOURCE_H_
