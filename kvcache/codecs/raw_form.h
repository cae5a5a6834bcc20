// The raw form of one page of one KV head: rows as attention wrote them, keys channel-major [head_dim][32], then values
// token-major [32][head_dim]. Rows are appended one by one; attention asks for *scores* (query rows against the 32
// tokens) and for the *mix* of the values by weights.
//
// Thread: kernels are pure functions. head_dim is a multiple of 16 everywhere. All kernels of all instruction sets give
// the same bits, for one row and for many: tokens lie in the lanes for scores, channels in the lanes for the mix.
#ifndef NIBBLE_KVCACHE_CODECS_RAW_FORM_H_
#define NIBBLE_KVCACHE_CODECS_RAW_FORM_H_

#include <cstddef>
#include <cstdint>

#include "kvcache/page.h"
#include "kvcache/simd/isa.h"

namespace nibble::kv {

// Query rows against one head's page.
struct RawScoresArgs {
  const std::byte* page = nullptr;
  int head_dim = 0;
  const float* queries = nullptr;  // [rows, head_dim], rows `query_stride` floats apart, already scaled
  int64_t query_stride = 0;
  int rows = 0;
  float* scores = nullptr;  // out: [rows, 32], rows `score_stride` floats apart; tokens never written give garbage
  int64_t score_stride = 0;
};

// mixed[r] += sum over tokens t in [first, last) of weights[r][t] * value[t], t ascending.
struct RawMixArgs {
  const std::byte* page = nullptr;
  int head_dim = 0;
  const float* weights = nullptr;  // [rows, 32], rows `weight_stride` floats apart
  int64_t weight_stride = 0;
  int rows = 0;
  int first = 0, last = kPageTokens;  // tokens outside are not touched
  float* mixed = nullptr;             // in and out: [rows, head_dim], rows `mixed_stride` floats apart
  int64_t mixed_stride = 0;
};

struct RawForm {
  int element_bytes;
  // Appends one token's key and value ([head_dim] each) at `slot` (0 .. 31).
  void (*store)(std::byte* page, int head_dim, int slot, const float* key, const float* value);
  void (*scores)(const RawScoresArgs& args);
  void (*mix)(const RawMixArgs& args);

  int64_t head_bytes(int64_t head_dim) const { return 2 * kPageTokens * head_dim * element_bytes; }
};

const RawForm& RawFormF16(simd::Isa isa);
// Rounds nothing: the reference of every other.
const RawForm& RawFormF32(simd::Isa isa);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_RAW_FORM_H_
