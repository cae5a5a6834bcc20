// Llama (arXiv 2302.13971, 2307.09288) and Mistral (arXiv 2310.06825): pre-norm, rotary embedding, grouped queries,
// SwiGLU.
#include "engine/models/decoder.h"

namespace nibble::engine {
namespace {

class Llama : public Decoder {
 public:
  using Decoder::Decoder;

 protected:
  absl::Status LoadLayer(int /*index*/, Layer& /*layer*/) override { return absl::OkStatus(); }

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

std::unique_ptr<Decoder> MakeLlama(const ModelConfig& config, const WeightSource& source, Backend& backend,
                                   const ModelLoadOptions& options) {
  return std::make_unique<Llama>(config, source, backend, options);
}

}  // namespace nibble::engine
