#include "engine/weights/layer_products.h"

#include <algorithm>

namespace nibble::engine {
namespace {

int64_t HiddenCols(const ModelConfig& config) { return config.hidden_size; }
int64_t AttentionCols(const ModelConfig& config) { return config.num_heads * config.head_dim; }
int64_t InnerCols(const ModelConfig& config) { return config.intermediate_size; }

}  // namespace

absl::Span<const LayerProduct> LayerProducts() {
  static const auto& products = *new std::vector<LayerProduct>{
      {Product::kQkv, "qkv", {"attn_q.weight", "attn_k.weight", "attn_v.weight"}, &Int8Inputs::qkv, HiddenCols},
      {Product::kAttentionOutput, "attn_output", {"attn_output.weight"}, &Int8Inputs::attention_output, AttentionCols},
      {Product::kGateUp, "gate_up", {"ffn_gate.weight", kUpProjection}, &Int8Inputs::gate_up, HiddenCols},
      {Product::kDown, "ffn_down", {"ffn_down.weight"}, &Int8Inputs::down, InnerCols},
  };
  return products;
}

bool IsProjection(std::string_view name) {
  if (!name.starts_with("blk.")) return false;
  const auto ends_name = [name](std::string_view part) {
    return name.ends_with(part) && name[name.size() - part.size() - 1] == '.';
  };
  return std::any_of(LayerProducts().begin(), LayerProducts().end(), [&](const LayerProduct& product) {
    return std::any_of(product.parts.begin(), product.parts.end(), ends_name);
  });
}

}  // namespace nibble::engine
