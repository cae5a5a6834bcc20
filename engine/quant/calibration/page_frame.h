// The frame of page-relative keys: a key after RoPE at position p, turned back by the angle of its page's first
// position, carries RoPE by p mod 32 alone. A query turned back by the same angle meets it with the same score.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_PAGE_FRAME_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_PAGE_FRAME_H_

#include <cstdint>
#include <vector>

#include "kvcache/codecs/codec.h"

namespace nibble::engine {

// Thread: immutable after construction.
class PageFrame {
 public:
  // For pages [0, pages) of a sequence.
  PageFrame(const kv::Rope& rope, int64_t pages);

  // Turns the vector of one head back by the angle of position 32 * page, in place.
  void TurnBack(int64_t page, float* x) const;

 private:
  const bool interleaved_;
  const int64_t pairs_;
  std::vector<float> cosines_, sines_;  // [pages, pairs]
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_PAGE_FRAME_H_
