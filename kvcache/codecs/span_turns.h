// Cosines and sines that turn a query or key back by the RoPE angle of a span's first position, and the order of
// channels in which turning is a matter of whole vectors.
#ifndef NIBBLE_KVCACHE_CODECS_SPAN_TURNS_H_
#define NIBBLE_KVCACHE_CODECS_SPAN_TURNS_H_

#include <cstdint>
#include <vector>

#include "kvcache/codecs/codec.h"

namespace nibble::kv {

// Thread: immutable after construction.
class SpanTurns {
 public:
  // For the spans of `pages` pages. REQUIRES: 2 * rope.frequencies.size() <= head_dim.
  SpanTurns(const Rope& rope, int head_dim, int64_t pages);

  // The channels of pair i.
  int pairs() const { return pairs_; }
  int first(int pair) const { return interleaved_ ? 2 * pair : pair; }
  int second(int pair) const { return interleaved_ ? 2 * pair + 1 : pair + pairs_; }

  // Turned order: by chunks of 16 pairs, first their first members, then their second ones; at last what does not turn.
  // Filled up with zeros to a multiple of 16 pairs and of 32 in all.
  int lanes() const { return lanes_; }  // pairs, filled up
  int size() const { return static_cast<int>(channels_.size()); }
  int channel(int i) const { return channels_[i]; }  // -1: filled up

  // Of pair i in `span`: [lanes()], 1 and 0 where filled up.
  const float* cosines(int64_t span) const { return turns_.data() + span * 2 * lanes_; }
  const float* sines(int64_t span) const { return cosines(span) + lanes_; }

  int64_t bytes() const {
    return static_cast<int64_t>(sizeof(*this) + channels_.capacity() * sizeof(int) + turns_.capacity() * sizeof(float));
  }

 private:
  bool interleaved_;
  int pairs_, lanes_;
  std::vector<int> channels_;
  std::vector<float> turns_;  // [spans][cosines, sines][lanes]
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_SPAN_TURNS_H_
