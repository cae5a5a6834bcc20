#include "kvcache/siphash.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace nibble::kv {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

struct State {
  uint64_t v0, v1, v2, v3;

  void Round() {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  }

  void Absorb(uint64_t word) {
    v3 ^= word;
    Round(), Round();
    v0 ^= word;
  }

  uint64_t Squeeze() {
    Round(), Round(), Round(), Round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

Hash128 SipHash128(const Hash128& key, absl::string_view bytes) {
  State state = {key.low ^ 0x736f6d6570736575, key.high ^ 0x646f72616e646f6d ^ 0xee, key.low ^ 0x6c7967656e657261,
                 key.high ^ 0x7465646279746573};
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    state.Absorb(word);
  }
  uint64_t last = static_cast<uint64_t>(bytes.size()) << 56;
  for (int shift = 0; at < bytes.size(); ++at, shift += 8) {
    last |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[at])) << shift;
  }
  state.Absorb(last);
  Hash128 result;
  state.v2 ^= 0xee;
  result.low = state.Squeeze();
  state.v1 ^= 0xdd;
  result.high = state.Squeeze();
  return result;
}

}  // namespace nibble::kv
