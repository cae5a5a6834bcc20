// Shape of a decoder-only transformer, whatever file it came from. Every number was validated by the loader:
// positive, bounded, divisible where the architecture divides.
#ifndef NIBBLE_ENGINE_WEIGHTS_MODEL_CONFIG_H_
#define NIBBLE_ENGINE_WEIGHTS_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

namespace nibble::engine {

// Limits of every architecture. A file at the limit is accepted, one past it is refused.
inline constexpr int64_t kMaxLayers = 512;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxHiddenSize = 1 << 17;
inline constexpr int64_t kMaxIntermediateSize = 1 << 20;
inline constexpr int64_t kMaxVocabSize = 1 << 22;
inline constexpr int64_t kMaxContextLength = 1 << 24;

// Inputs of one layer's products that stay int8 where activations have 4 bits: rising column numbers of the matrix.
// `nibble quantize` chooses those with the most energy.
struct Int8Inputs {
  std::vector<int32_t> qkv, attention_output, gate_up, down;
};

struct ModelConfig {
  std::string architecture;  // "llama", "qwen2", "qwen3", "gemma3"
  std::string name;          // general.name, for people; may be empty
  int64_t context_length = 0;
  int64_t vocab_size = 0;  // rows of the embedding = logits per position
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;  // of K and V alike
  float rms_epsilon = 0.0f;
  float rope_base = 10000.0f;
  float rope_base_local = 10000.0f;  // gemma3: base of the sliding-window layers
  float rope_linear_factor = 1.0f;   // positions are divided by it (rope.scaling.type = linear; not for local layers)
  int64_t rope_dims = 0;             // leading dimensions of a head that are rotated; even
  bool rope_interleaved = false;     // pairs are (0,1), (2,3), … (llama files); else (i, i + rope_dims/2)
  // Llama 3.1 and later: [rope_dims/2], each frequency is divided by its factor. Empty: all 1.
  std::vector<float> rope_factors;
  int64_t sliding_window = 0;        // 0: none
  int64_t sliding_pattern = 0;       // gemma3: 6 = layers 5, 11, … are global, the others local; 0: no local layers
  float final_logit_softcap = 0.0f;  // 0: none
  float attention_logit_softcap = 0.0f;
  float attention_scale = 0.0f;         // scores are multiplied by it; 0 means 1/sqrt(head_dim)
  bool tied_embeddings = false;         // no output.weight: the head is token_embd.weight
  std::vector<Int8Inputs> int8_inputs;  // [num_layers], or empty: none

  // Whether the layer sees a window only and has the local rotary base.
  bool IsLocal(int64_t layer) const { return sliding_pattern > 0 && (layer + 1) % sliding_pattern != 0; }
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_MODEL_CONFIG_H_
