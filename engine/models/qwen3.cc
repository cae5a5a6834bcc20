// Qwen3 (arXiv 2505.09388): as Llama, with a norm over each head of queries and keys.
#include "engine/models/decoder.h"

namespace nibble::engine {
namespace {

class Qwen3 : public Decoder {
 public:
  using Decoder::Decoder;

 protected:
  absl::Status LoadLayer(int index, Layer& layer) override {
    layer.query_norm = LayerNorm(index, "attn_q_norm");
    layer.key_norm = LayerNorm(index, "attn_k_norm");
    return absl::OkStatus();
  }

  void RunLayer(int index, const Layer& layer) override {
    NormInput(layer.attention_norm);
    ProjectQkv(layer);
    NormQueriesKeys(layer);
    Attend(index, global_rope(), /*window=*/0);
    ProjectAttention(layer, Epilogue::kAdd);
    NormInput(layer.mlp_norm);
    GatedMlp(layer, Activation::kSilu, Epilogue::kAdd);
  }
};

}  // namespace

std::unique_ptr<Decoder> MakeQwen3(const ModelConfig& config, const WeightSource& source, Backend& backend,
                                   const ModelLoadOptions& options) {
  return std::make_unique<Qwen3>(config, source, backend, options);
}

}  // namespace nibble::engine
