#include "kvcache/codecs/codec.h"

#include "kvcache/codecs/affine.h"

namespace nibble::kv {
namespace {

// One row per codec: name, window, sink, calibrated, raw form, how it is made.
constexpr Codec kCodecs[] = {
    {"f16", 0, 0, false, RawFormF16, nullptr},
    {"f32", 0, 0, false, RawFormF32, nullptr},
    {"int8", 0, 1, false, RawFormF16, CreateInt8},
    {"int4", 0, 1, false, RawFormF16, CreateInt4},
    {"kivi4", 0, 1, false, RawFormF16, CreateKivi4},
    {"kivi2", 1, 1, false, RawFormF16, CreateKivi2},
};

}  // namespace

const Codec* FindCodec(std::string_view name) {
  for (const Codec& codec : kCodecs) {
    if (codec.name == name) return &codec;
  }
  return nullptr;
}

}  // namespace nibble::kv
