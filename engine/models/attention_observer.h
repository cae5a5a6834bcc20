// Who watches attention at work: calibration, which learns from a forward pass what caches will hold.
#ifndef NIBBLE_ENGINE_MODELS_ATTENTION_OBSERVER_H_
#define NIBBLE_ENGINE_MODELS_ATTENTION_OBSERVER_H_

#include <cstdint>

#include "engine/backends/backend.h"

namespace nibble::engine {

// One layer's attention over one batch, all views valid for the call alone.
struct ObservedAttention {
  int layer = 0;
  absl::Span<const SequenceRows> batch;
  AttentionShape shape;
  float scale = 1.0f;
  int64_t window = 0;    // tokens; 0: all
  float softcap = 0.0f;  // 0: none
  View residual;         // [rows, hidden]: the stream that attention reads from and adds to
  View qkv;              // [rows, (heads + 2 kv heads) * head_dim]: q | k | v, q and k after RoPE
  View attended;         // [rows, heads * head_dim]: before the output projection
};

class AttentionObserver {
 public:
  virtual ~AttentionObserver() = default;
  // Thread: the one that runs the step.
  virtual void OnAttention(const ObservedAttention& attention) = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_ATTENTION_OBSERVER_H_
