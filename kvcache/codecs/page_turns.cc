#include "kvcache/codecs/page_turns.h"

#include "kvcache/page.h"
#include "kvcache/simd/portable_math.h"

namespace nibble::kv {
namespace {

int RoundUp16(int n) { return (n + 15) / 16 * 16; }

}  // namespace

PageTurns::PageTurns(const Rope& rope, int head_dim, int64_t pages)
    : interleaved_(rope.interleaved),
      pairs_(static_cast<int>(rope.frequencies.size())),
      lanes_(RoundUp16(pairs_)),
      channels_(2 * lanes_ + RoundUp16(head_dim - 2 * pairs_), -1),
      turns_(pages * 2 * lanes_ + 1) {
  for (int i = 0; i < pairs_; ++i) channels_[i] = first(i), channels_[lanes_ + i] = second(i);
  for (int i = 2 * pairs_; i < head_dim; ++i) channels_[2 * lanes_ + i - 2 * pairs_] = i;
  for (int64_t page = 0; page < pages; ++page) {
    const double position = static_cast<double>(page * kPageTokens);
    float* cosines = &turns_[page * 2 * lanes_];
    for (int i = 0; i < lanes_; ++i) {
      const double frequency = i < pairs_ ? rope.frequencies[i] : 0.0;
      const simd::SineCosine turn = simd::PortableSineCosine(position * frequency);
      cosines[i] = static_cast<float>(turn.cosine);
      cosines[lanes_ + i] = static_cast<float>(turn.sine);
    }
  }
}

}  // namespace nibble::kv
