// The affine codecs: a code times a scale, plus a minimum where the codec has one. Formats and numerics stand in the
// head of each codec's file: int8.cc, int4.cc, kivi.cc.
#ifndef NIBBLE_KVCACHE_CODECS_AFFINE_H_
#define NIBBLE_KVCACHE_CODECS_AFFINE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kvcache/codecs/codec.h"

namespace nibble::kv {

// INVALID_ARGUMENT unless head_dim is a multiple of 32, the size of a group, and at most 512. `calibration` is not
// looked at.
absl::StatusOr<std::unique_ptr<PageCodec>> CreateInt8(const CodecModel& model, const Calibration* calibration,
                                                      simd::Isa isa);
absl::StatusOr<std::unique_ptr<PageCodec>> CreateInt4(const CodecModel& model, const Calibration* calibration,
                                                      simd::Isa isa);
absl::StatusOr<std::unique_ptr<PageCodec>> CreateKivi4(const CodecModel& model, const Calibration* calibration,
                                                       simd::Isa isa);
absl::StatusOr<std::unique_ptr<PageCodec>> CreateKivi2(const CodecModel& model, const Calibration* calibration,
                                                       simd::Isa isa);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_AFFINE_H_
