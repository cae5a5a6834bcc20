// `f16`: the sealed page is the raw page.
#ifndef NIBBLE_KVCACHE_CODECS_F16_H_
#define NIBBLE_KVCACHE_CODECS_F16_H_

#include "kvcache/codecs/codec.h"

namespace nibble::kv {

const CodecKernels& F16Kernels(simd::Isa isa);

inline constexpr Codec kF16Codec = {"f16", 16.0, RawHeadBytes, F16Kernels};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_F16_H_
