// The `.nibblekv` file: what `nibble calibrate` found out about one model, for one or several codecs of the KV cache.
// It is a safetensors file (engine/weights/safetensors.h).
//
// Metadata: format "nibblekv", format_version "1", codecs (names, a comma between), and the provenance. Tensors, per
// codec, here klt2; heads go one after another: layer by layer, keys before values.
//   klt2.mean            F32  [layers, 2, heads, head_dim]
//   klt2.coefficients    I32  [layers, 2, heads]            how many of the rows below are a head's
//   klt2.groups          I32  [layers, 2, heads]            how many of the group_ends are a head's
//   klt2.group_ends      I32  [all groups]
//   klt2.analysis        F16  [all coefficients, head_dim]
//   klt2.synthesis       F16  [all coefficients * head_dim]  per head [head_dim, coefficients]
//   klt2.centroid_scale  F32  [all coefficients]
//   klt2.centroids       I8   [all coefficients, entries]   entries: 256, or 64 that are mirrored
// kvcache/codecs/calibration.h says what the numbers mean.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_FILE_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvcache/codecs/calibration.h"

namespace nibble::engine {

inline constexpr uint64_t kMaxCalibrationBytes = uint64_t{4} << 30;
inline constexpr uint64_t kMaxCalibrationMethodBytes = 256;  // at least 1
inline constexpr uint64_t kMaxCodecNameBytes = 16;           // of a-z and 0-9; at least 1
inline constexpr uint64_t kMaxCalibrationCodecs = 16;        // at least 1

struct CalibrationProvenance {
  std::string model_sha256;  // ModelSha256 of the weights it was made from
  std::string text_sha256;   // of the calibration text's bytes
  std::string method;        // for people
  uint64_t seed = 0;
  uint64_t tokens = 0;  // of the text that were run
};

struct CalibrationFile {
  CalibrationProvenance provenance;
  std::vector<kv::Calibration> codecs;  // of distinct names
};

// REQUIRES: what ParseCalibration proves, and vectors as long as kvcache/codecs/calibration.h says.
std::string SerializeCalibration(const CalibrationFile& file);

// FAILED_PRECONDITION names the field and its offset. Allocates a small multiple of `bytes` at most. Proves the layout:
// every codec has at least one layer, head and channel, and vectors as long as the counts say. What numbers a codec can
// work with is for the codec to check when it is created.
absl::StatusOr<CalibrationFile> ParseCalibration(absl::Span<const std::byte> bytes);

// Parses a file, read into memory: the path comes from an operator, the file may not. Errors name the path.
absl::StatusOr<CalibrationFile> ReadCalibration(const std::string& path);
// The same, and FAILED_PRECONDITION for a file that was made from another model.
absl::StatusOr<CalibrationFile> ReadCalibrationFor(const std::string& path, std::string_view model_sha256);

// A copy of one codec of `file`, which came from `path`. FAILED_PRECONDITION, listing those it has, if there is none of
// that name.
absl::StatusOr<std::shared_ptr<const kv::Calibration>> CodecOf(const CalibrationFile& file, std::string_view codec,
                                                               const std::string& path);

// ReadCalibrationFor and CodecOf.
absl::StatusOr<std::shared_ptr<const kv::Calibration>> LoadCalibration(const std::string& path, std::string_view codec,
                                                                       std::string_view model_sha256);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_FILE_H_
