#include "engine/quant/calibration/span_frame.h"

#include "kvcache/simd/portable_math.h"

namespace nibble::engine {

SpanFrame::SpanFrame(const kv::Rope& rope, int64_t pages)
    : interleaved_(rope.interleaved), pairs_(static_cast<int64_t>(rope.frequencies.size())) {
  for (int64_t page = 0; page < pages; page += kv::kSpanPages) {
    for (const double frequency : rope.frequencies) {
      const double position = static_cast<double>(page * kv::kPageTokens);
      const simd::SineCosine angle = simd::PortableSineCosine(position * frequency);
      cosines_.push_back(static_cast<float>(angle.cosine));
      sines_.push_back(static_cast<float>(angle.sine));
    }
  }
}

void SpanFrame::TurnBack(int64_t page, float* x) const {
  const float* cosines = cosines_.data() + page / kv::kSpanPages * pairs_;
  const float* sines = sines_.data() + page / kv::kSpanPages * pairs_;
  for (int64_t i = 0; i < pairs_; ++i) {
    float& a = x[interleaved_ ? 2 * i : i];
    float& b = x[interleaved_ ? 2 * i + 1 : i + pairs_];
    const float turned = a * cosines[i] + b * sines[i];
    b = b * cosines[i] - a * sines[i];
    a = turned;
  }
}

}  // namespace nibble::engine
