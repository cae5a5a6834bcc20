#include "kvcache/codecs/codec.h"

#include "kvcache/codecs/affine.h"
#include "kvcache/codecs/coupled.h"

namespace nibble::kv {
namespace {

constexpr char kCq2[] = "cq2", kCq1[] = "cq1", kKlt3[] = "klt3", kKlt2[] = "klt2", kKlt1[] = "klt1";

template <const char* kName>
absl::StatusOr<std::unique_ptr<PageCodec>> CreateNamed(const CodecModel& model, const Calibration* calibration,
                                                       simd::Isa isa) {
  return CreateCoupled(kName, model, calibration, isa);
}

// One row per codec: name, window, sink, calibrated, raw form, how it is made.
// clang-format off
constexpr Codec kCodecs[] = {
    {"f16", 0, 0, false, RawFormF16, nullptr},
    {"f32", 0, 0, false, RawFormF32, nullptr},
    {"int8", 0, 1, false, RawFormF16, CreateInt8},
    {"int4", 1, 1, false, RawFormF16, CreateInt4},
    {"kivi4", 1, 1, false, RawFormF16, CreateKivi4},
    {"kivi2", 1, 1, false, RawFormF16, CreateKivi2},
    {kCq2, 1, 1, true, RawFormF16, CreateNamed<kCq2>},
    {kCq1, 1, 1, true, RawFormF16, CreateNamed<kCq1>},
    {kKlt3, 1, 1, true, RawFormF16, CreateNamed<kKlt3>},
    {kKlt2, 1, 1, true, RawFormF16, CreateNamed<kKlt2>},
    {kKlt1, 1, 1, true, RawFormF16, CreateNamed<kKlt1>},
};
// clang-format on

}  // namespace

const Codec* FindCodec(std::string_view name) {
  for (const Codec& codec : kCodecs) {
    if (codec.name == name) return &codec;
  }
  return nullptr;
}

}  // namespace nibble::kv
