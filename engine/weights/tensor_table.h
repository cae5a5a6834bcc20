// Which tensors, of which shapes, a model of each architecture holds, and what files call them: one table.
#ifndef NIBBLE_ENGINE_WEIGHTS_TENSOR_TABLE_H_
#define NIBBLE_ENGINE_WEIGHTS_TENSOR_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/weights/architecture.h"
#include "engine/weights/gguf.h"
#include "engine/weights/model_config.h"

namespace nibble::engine {

// Extents that tensors' dimensions have; tensor_table.cc lists them in this order.
enum class Extent : uint8_t {
  kNone,     // no second dimension
  kVocab,    // vocab_size
  kHidden,   // hidden_size
  kInner,    // intermediate_size
  kQuery,    // num_heads * head_dim
  kKey,      // num_kv_heads * head_dim, of K and V
  kHead,     // head_dim
  kRopeHalf  // rope_dims / 2
};

struct TensorRule {
  std::string_view name;     // in GGUF files, and in a WeightSource; after "blk.N." where per_layer
  std::string_view hf_name;  // in Hugging Face checkpoints, after "model.layers.N." where per_layer; empty: none
  bool per_layer;
  bool required;
  unsigned architectures;  // bits of architecture.h
  Extent outer;            // of a vector: its only dimension
  Extent inner;
};

// What an architecture's file must, and may, hold: a matrix is [outputs, inputs], a vector [n], in any encoding.
inline constexpr TensorRule kTensorTable[] = {
    {"token_embd.weight", "model.embed_tokens.weight", false, true, kAllArchitectures, Extent::kVocab, Extent::kHidden},
    {"output.weight", "lm_head.weight", false, false, kAllArchitectures, Extent::kVocab, Extent::kHidden},
    {"output_norm.weight", "model.norm.weight", false, true, kAllArchitectures, Extent::kHidden, Extent::kNone},
    {"rope_freqs.weight", "", false, false, kLlama, Extent::kRopeHalf, Extent::kNone},
    {"attn_norm.weight", "input_layernorm.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kNone},
    {"attn_q.weight", "self_attn.q_proj.weight", true, true, kAllArchitectures, Extent::kQuery, Extent::kHidden},
    {"attn_k.weight", "self_attn.k_proj.weight", true, true, kAllArchitectures, Extent::kKey, Extent::kHidden},
    {"attn_v.weight", "self_attn.v_proj.weight", true, true, kAllArchitectures, Extent::kKey, Extent::kHidden},
    {"attn_q.bias", "self_attn.q_proj.bias", true, true, kQwen2, Extent::kQuery, Extent::kNone},
    {"attn_k.bias", "self_attn.k_proj.bias", true, true, kQwen2, Extent::kKey, Extent::kNone},
    {"attn_v.bias", "self_attn.v_proj.bias", true, true, kQwen2, Extent::kKey, Extent::kNone},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", true, true, kQwen3 | kGemma3, Extent::kHead, Extent::kNone},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", true, true, kQwen3 | kGemma3, Extent::kHead, Extent::kNone},
    {"attn_output.weight", "self_attn.o_proj.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kQuery},
    {"post_attention_norm.weight", "post_attention_layernorm.weight", true, true, kGemma3, Extent::kHidden,
     Extent::kNone},
    {"ffn_norm.weight", "pre_feedforward_layernorm.weight", true, true, kGemma3, Extent::kHidden, Extent::kNone},
    {"ffn_norm.weight", "post_attention_layernorm.weight", true, true, kAllArchitectures & ~kGemma3, Extent::kHidden,
     Extent::kNone},
    {"ffn_gate.weight", "mlp.gate_proj.weight", true, true, kAllArchitectures, Extent::kInner, Extent::kHidden},
    {"ffn_up.weight", "mlp.up_proj.weight", true, true, kAllArchitectures, Extent::kInner, Extent::kHidden},
    {"ffn_down.weight", "mlp.down_proj.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kInner},
    {"post_ffw_norm.weight", "post_feedforward_layernorm.weight", true, true, kGemma3, Extent::kHidden, Extent::kNone},
};

// [outer] or [outer, inner]. REQUIRES: the extents of `config` that the rule names are read.
std::vector<int64_t> ShapeOf(const TensorRule& rule, const ModelConfig& config);
// "[8, 12]"
std::string ShapeText(absl::Span<const int64_t> shape);

// Holds every tensor of `file` against the table. FAILED_PRECONDITION names the tensor and its offset: a required one
// is missing, a shape is wrong, or a tensor that takes part in the computation is not known. `architecture` is its bit.
absl::Status CheckTensors(const GgufFile& file, const ModelConfig& config, unsigned architecture);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TENSOR_TABLE_H_
