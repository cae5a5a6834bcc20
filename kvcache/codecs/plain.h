// Codecs that keep rows as they are, the sealed page being the raw page: `f16`, and `f32`, which rounds nothing and
// serves as the reference of every other.
#ifndef NIBBLE_KVCACHE_CODECS_PLAIN_H_
#define NIBBLE_KVCACHE_CODECS_PLAIN_H_

#include "kvcache/codecs/codec.h"

namespace nibble::kv {

const CodecKernels& F16Kernels(simd::Isa isa);
const CodecKernels& F32Kernels(simd::Isa isa);

// Keys channel-major, [head_dim][32], then values token-major, [32][head_dim].
constexpr int64_t F16HeadBytes(int64_t head_dim) { return 2 * kPageTokens * head_dim * 2; }
constexpr int64_t F32HeadBytes(int64_t head_dim) { return 2 * kPageTokens * head_dim * 4; }

inline constexpr Codec kF16Codec = {"f16", 16.0, F16HeadBytes, F16Kernels};
inline constexpr Codec kF32Codec = {"f32", 32.0, F32HeadBytes, F32Kernels};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_PLAIN_H_
