// The matrix products of a layer, and the tensors whose rows, one under another, make each one's matrix: one table for
// what computes them, rounds them, keeps them in files and learns from their inputs.
#ifndef NIBBLE_ENGINE_WEIGHTS_LAYER_PRODUCTS_H_
#define NIBBLE_ENGINE_WEIGHTS_LAYER_PRODUCTS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/model_config.h"

namespace nibble::engine {

// In the order of the computation.
enum class Product { kQkv, kAttentionOutput, kGateUp, kDown };
inline constexpr size_t kNumProducts = 4;

// Its rows make what the down projection's inputs are multiplied with: a scale of theirs moves from one to the other.
inline constexpr std::string_view kUpProjection = "ffn_up.weight";

struct LayerProduct {
  Product product;
  std::string_view name;                // of its lists in quantized files
  std::vector<std::string_view> parts;  // tensors, after "blk.N."
  std::vector<int32_t> Int8Inputs::*int8_inputs;
  int64_t (*cols)(const ModelConfig& config);  // of the matrix: the product's inputs
};

// By Product.
absl::Span<const LayerProduct> LayerProducts();
inline const LayerProduct& RowOf(Product product) { return LayerProducts()[static_cast<size_t>(product)]; }

// Whether a tensor is part of one of them; `name` as in a WeightSource.
bool IsProjection(std::string_view name);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_LAYER_PRODUCTS_H_
