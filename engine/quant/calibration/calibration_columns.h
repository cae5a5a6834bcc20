// The numbers of one codec as a `.nibblekv` file has them: a few long tensors in place of many small vectors. For
// calibration_file.cc alone.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_COLUMNS_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_COLUMNS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/weights/safetensors.h"
#include "kvcache/codecs/calibration.h"

namespace nibble::engine {

inline constexpr int kCalibrationTensors = 8;  // of one codec

struct CalibrationColumns {
  int64_t layers = 0, heads = 0, head_dim = 0;
  int64_t all_coefficients = 0, all_groups = 0;
  int64_t entries = 0;  // of a codebook
  std::vector<float> mean;
  std::vector<int32_t> coefficients, groups, group_ends;
  std::vector<uint16_t> analysis, synthesis;
  std::vector<float> centroid_scale;
  std::vector<int8_t> centroids;
};

// REQUIRES: at least one layer and head; all layers have as many heads, all vectors are as long as their meaning says.
CalibrationColumns ColumnsOf(const kv::Calibration& calibration);

// Appends the codec's tensors, which point into `columns`.
void AddTensors(const std::string& codec, const CalibrationColumns& columns, std::vector<SafetensorsTensor>* tensors);

// FAILED_PRECONDITION names the tensor that is missing, of another type or shape, or holds a negative count.
absl::StatusOr<CalibrationColumns> ReadColumns(const SafetensorsFile& file, const std::string& codec);

// REQUIRES: `columns` came from one of the two functions above.
kv::Calibration CalibrationOf(const std::string& codec, const CalibrationColumns& columns);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_CALIBRATION_COLUMNS_H_
