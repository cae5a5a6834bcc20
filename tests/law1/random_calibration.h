// A calibration that restores nothing well but exercises everything: random transforms, means and centroids.
#ifndef NIBBLE_TESTS_LAW1_RANDOM_CALIBRATION_H_
#define NIBBLE_TESTS_LAW1_RANDOM_CALIBRATION_H_

#include <memory>
#include <string>

#include "kvcache/codecs/codec.h"

namespace nibble {

// Seeded by the codec's name; nullptr where the codec needs none.
std::shared_ptr<const kv::Calibration> RandomCalibration(const std::string& codec, const kv::CodecModel& model);

}  // namespace nibble

#endif  // NIBBLE_TESTS_LAW1_RANDOM_CALIBRATION_H_
