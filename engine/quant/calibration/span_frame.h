// The frame of a span's keys (kv::kSpanPages): a key after RoPE, turned back by the angle of its span's first position,
// carries RoPE by its place in the span alone. A query turned back by the same angle meets it with the same score.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_SPAN_FRAME_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_SPAN_FRAME_H_

#include <cstdint>

#include "kvcache/codecs/span_turns.h"

namespace nibble::engine {

// Thread: immutable after construction.
class SpanFrame {
 public:
  // For pages [0, pages) of a sequence.
  SpanFrame(const kv::Rope& rope, int64_t pages);

  // Turns the vector of one head back by the angle of the first position of the page's span, in place.
  void TurnBack(int64_t page, float* x) const;

 private:
  const kv::SpanTurns turns_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_SPAN_FRAME_H_
