// Gemma 3 (arXiv 2503.19786): embeddings scaled by sqrt(hidden), norms before and after each branch, norms over the
// heads of queries and keys, GeGLU; of every `sliding_pattern` layers all but the last see a window only and have their
// own rotary base.
#include <cmath>

#include "engine/models/decoder.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

class Gemma3 : public Decoder {
 public:
  Gemma3(const ModelConfig& model_config, const WeightSource& source, Backend& backend, const ModelLoadOptions& options)
      : Decoder(model_config, source, backend, options) {
    set_embedding_scale(std::sqrt(static_cast<float>(model_config.hidden_size)));
  }

 protected:
  absl::Status LoadLayer(int index, Layer& layer) override {
    layer.query_norm = LayerNorm(index, "attn_q_norm");
    layer.key_norm = LayerNorm(index, "attn_k_norm");
    layer.post_attention_norm = LayerNorm(index, "post_attention_norm");
    layer.post_mlp_norm = LayerNorm(index, "post_ffw_norm");
    if (index == 0) {
      NIBBLE_ASSIGN_OR_RETURN(local_rope_, MakeRope(config().rope_base_local, /*linear_factor=*/1.0));
    }
    return absl::OkStatus();
  }

  void PrepareRopes() override {
    Decoder::PrepareRopes();
    PrepareRope(local_rope_);
  }

  void RunLayer(int index, const Layer& layer) override {
    NormInput(layer.attention_norm);
    ProjectQkv(layer);
    NormQueriesKeys(layer);
    if (config().IsLocal(index)) {
      Attend(index, local_rope_, config().sliding_window);
    } else {
      Attend(index, global_rope(), /*window=*/0);
    }
    ProjectAttention(layer, Epilogue::kStore);
    AddNormed(layer.post_attention_norm);
    NormInput(layer.mlp_norm);
    GatedMlp(layer, Activation::kGeluTanh, Epilogue::kStore);
    AddNormed(layer.post_mlp_norm);
  }

 private:
  Rope local_rope_;
};

}  // namespace

std::unique_ptr<Decoder> MakeGemma3(const ModelConfig& config, const WeightSource& source, Backend& backend,
                                    const ModelLoadOptions& options) {
  return std::make_unique<Gemma3>(config, source, backend, options);
}

}  // namespace nibble::engine
