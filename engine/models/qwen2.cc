// Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): as Llama, with a bias on queries, keys and values.
#include "engine/models/decoder.h"

namespace nibble::engine {
namespace {

class Qwen2 : public Decoder {
 public:
  using Decoder::Decoder;

 protected:
  absl::Status LoadLayer(int index, Layer& layer) override {
    layer.qkv_bias = LayerQkvBias(index);
    return absl::OkStatus();
  }

  void RunLayer(int index, const Layer& layer) override {
    NormInput(layer.attention_norm);
    ProjectQkv(layer);
    Attend(index, global_rope(), /*window=*/0);
    ProjectAttention(layer, Epilogue::kAdd);
    NormInput(layer.mlp_norm);
    GatedMlp(layer, Activation::kSilu, Epilogue::kAdd);
  }
};

}  // namespace

std::unique_ptr<Decoder> MakeQwen2(const ModelConfig& config, const WeightSource& source, Backend& backend,
                                   const ModelLoadOptions& options) {
  return std::make_unique<Qwen2>(config, source, backend, options);
}

}  // namespace nibble::engine
