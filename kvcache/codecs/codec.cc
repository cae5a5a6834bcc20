#include "kvcache/codecs/codec.h"

#include "kvcache/codecs/plain.h"

namespace nibble::kv {
namespace {

// One row per codec.
constexpr const Codec* kCodecs[] = {
    &kF16Codec,
    &kF32Codec,
};

}  // namespace

const Codec* FindCodec(std::string_view name) {
  for (const Codec* codec : kCodecs) {
    if (codec->name == name) return codec;
  }
  return nullptr;
}

}  // namespace nibble::kv
