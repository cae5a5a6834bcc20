// Small calibrations for tests of the file and for its fuzzing: numbers mean nothing, sizes differ from head to head.
#ifndef NIBBLE_TESTS_ENGINE_QUANT_CALIBRATION_TINY_CALIBRATION_H_
#define NIBBLE_TESTS_ENGINE_QUANT_CALIBRATION_TINY_CALIBRATION_H_

#include <string>

#include "engine/quant/calibration/calibration_file.h"

namespace nibble::engine {

// Of one codec: heads of 4 channels with 1 to 4 coefficients each.
kv::Calibration TinyCalibration(const std::string& codec, int layers, int heads);

// klt2 of two layers with two heads, and cq1 of one layer with one head.
CalibrationFile TinyCalibrationFile();

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_QUANT_CALIBRATION_TINY_CALIBRATION_H_
