#include "kvcache/codecs/codec.h"

namespace nibble::kv {
namespace {

// One row per codec: name, window, sink, calibrated, raw form, how it is made.
constexpr Codec kCodecs[] = {
    {"f16", 0, 0, false, RawFormF16, nullptr},
    {"f32", 0, 0, false, RawFormF32, nullptr},
};

}  // namespace

const Codec* FindCodec(std::string_view name) {
  for (const Codec& codec : kCodecs) {
    if (codec.name == name) return &codec;
  }
  return nullptr;
}

}  // namespace nibble::kv
