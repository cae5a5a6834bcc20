// Which tensors, of which shapes, a GGUF file of each architecture holds: one table.
#ifndef NIBBLE_ENGINE_WEIGHTS_TENSORS_GGUF_H_
#define NIBBLE_ENGINE_WEIGHTS_TENSORS_GGUF_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "engine/weights/gguf.h"
#include "engine/weights/model_config.h"

namespace nibble::engine {

// Extents that tensors' dimensions have; tensors_gguf.cc lists them in this order.
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

// Bits of TensorRule::architectures.
inline constexpr unsigned kLlama = 1, kQwen2 = 2, kQwen3 = 4, kGemma3 = 8;
inline constexpr unsigned kAllArchitectures = kLlama | kQwen2 | kQwen3 | kGemma3;

struct TensorRule {
  std::string_view name;  // after "blk.N." where per_layer
  bool per_layer;
  bool required;
  unsigned architectures;
  Extent outer;  // of a vector: its only dimension
  Extent inner;
};

// What an architecture's file must, and may, hold: a matrix is [outputs, inputs], a vector [n], in any encoding.
inline constexpr TensorRule kGgufTensors[] = {
    {"token_embd.weight", false, true, kAllArchitectures, Extent::kVocab, Extent::kHidden},
    {"output.weight", false, false, kAllArchitectures, Extent::kVocab, Extent::kHidden},
    {"output_norm.weight", false, true, kAllArchitectures, Extent::kHidden, Extent::kNone},
    {"rope_freqs.weight", false, false, kLlama, Extent::kRopeHalf, Extent::kNone},
    {"attn_norm.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kNone},
    {"attn_q.weight", true, true, kAllArchitectures, Extent::kQuery, Extent::kHidden},
    {"attn_k.weight", true, true, kAllArchitectures, Extent::kKey, Extent::kHidden},
    {"attn_v.weight", true, true, kAllArchitectures, Extent::kKey, Extent::kHidden},
    {"attn_q.bias", true, true, kQwen2, Extent::kQuery, Extent::kNone},
    {"attn_k.bias", true, true, kQwen2, Extent::kKey, Extent::kNone},
    {"attn_v.bias", true, true, kQwen2, Extent::kKey, Extent::kNone},
    {"attn_q_norm.weight", true, true, kQwen3 | kGemma3, Extent::kHead, Extent::kNone},
    {"attn_k_norm.weight", true, true, kQwen3 | kGemma3, Extent::kHead, Extent::kNone},
    {"attn_output.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kQuery},
    {"post_attention_norm.weight", true, true, kGemma3, Extent::kHidden, Extent::kNone},
    {"ffn_norm.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kNone},
    {"ffn_gate.weight", true, true, kAllArchitectures, Extent::kInner, Extent::kHidden},
    {"ffn_up.weight", true, true, kAllArchitectures, Extent::kInner, Extent::kHidden},
    {"ffn_down.weight", true, true, kAllArchitectures, Extent::kHidden, Extent::kInner},
    {"post_ffw_norm.weight", true, true, kGemma3, Extent::kHidden, Extent::kNone},
};

// Holds every tensor of `file` against the table. FAILED_PRECONDITION names the tensor and its offset: a required one
// is missing, a shape is wrong, or a tensor that takes part in the computation is not known. `architecture` is its bit.
absl::Status CheckTensors(const GgufFile& file, const ModelConfig& config, unsigned architecture);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TENSORS_GGUF_H_
