#include "engine/weights/fingerprint.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "engine/weights/sha256.h"

namespace nibble::engine {
namespace {

// Lengths go before what they measure, so that no two models give the same bytes.
void AddNumber(uint64_t number, Sha256* hash) {
  hash->Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&number), sizeof(number)));
}

void AddText(std::string_view text, Sha256* hash) {
  AddNumber(text.size(), hash);
  hash->Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size()));
}

void AddTensor(const Tensor& tensor, Sha256* hash) {
  AddText(tensor.name, hash);
  AddText(TraitsOf(tensor.encoding).name, hash);
  AddNumber(tensor.shape.size(), hash);
  for (const int64_t dim : tensor.shape) AddNumber(static_cast<uint64_t>(dim), hash);
  AddNumber(tensor.data.size(), hash);
  const auto row_bytes = static_cast<size_t>(tensor.row_bytes());
  for (int64_t i = 0; i < tensor.rows(); ++i) hash->Add({tensor.row(i), row_bytes});
}

}  // namespace

std::string ModelSha256(const WeightSource& weights) {
  std::vector<const Tensor*> sorted;
  for (const Tensor& tensor : weights.tensors()) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  Sha256 hash;
  for (const Tensor* tensor : sorted) AddTensor(*tensor, &hash);
  return hash.Hex();
}

}  // namespace nibble::engine
