#include "engine/quant/calibration/span_frame.h"

namespace nibble::engine {

SpanFrame::SpanFrame(const kv::Rope& rope, int64_t pages)
    : turns_(rope, static_cast<int>(2 * rope.frequencies.size()), pages) {}

void SpanFrame::TurnBack(int64_t page, float* x) const {
  const float* cosines = turns_.cosines(page / kv::kSpanPages);
  const float* sines = turns_.sines(page / kv::kSpanPages);
  for (int i = 0; i < turns_.pairs(); ++i) {
    float& a = x[turns_.first(i)];
    float& b = x[turns_.second(i)];
    const float turned = a * cosines[i] + b * sines[i];
    b = b * cosines[i] - a * sines[i];
    a = turned;
  }
}

}  // namespace nibble::engine
