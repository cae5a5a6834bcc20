#include "kvcache/codecs/span_turns.h"

#include "kvcache/page.h"
#include "kvcache/simd/portable_math.h"

namespace nibble::kv {
namespace {

int RoundUp(int n, int unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

SpanTurns::SpanTurns(const Rope& rope, int head_dim, int64_t pages)
    : interleaved_(rope.interleaved),
      pairs_(static_cast<int>(rope.frequencies.size())),
      lanes_(RoundUp(pairs_, 16)),
      channels_(2 * lanes_ + RoundUp(head_dim - 2 * pairs_, 32), -1),
      turns_((pages + kSpanPages - 1) / kSpanPages * 2 * lanes_) {
  for (int i = 0; i < pairs_; ++i) {
    int* chunk = &channels_[i / 16 * 32];
    chunk[i % 16] = first(i);
    chunk[16 + i % 16] = second(i);
  }
  for (int i = 2 * pairs_; i < head_dim; ++i) channels_[2 * lanes_ + i - 2 * pairs_] = i;
  for (int64_t span = 0; span * kSpanPages < pages; ++span) {
    const double position = static_cast<double>(span * kSpanPages * kPageTokens);
    float* cosines = turns_.data() + span * 2 * lanes_;
    for (int i = 0; i < lanes_; ++i) {
      const double frequency = i < pairs_ ? rope.frequencies[i] : 0.0;
      const simd::SineCosine turn = simd::PortableSineCosine(position * frequency);
      cosines[i] = static_cast<float>(turn.cosine);
      cosines[lanes_ + i] = static_cast<float>(turn.sine);
    }
  }
}

}  // namespace nibble::kv
