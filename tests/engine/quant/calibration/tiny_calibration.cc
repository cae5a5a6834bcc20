#include "tests/engine/quant/calibration/tiny_calibration.h"

#include <random>

namespace nibble::engine {
namespace {

constexpr int kHeadDim = 4;

kv::HeadCode TinyHead(int entries, std::mt19937& random) {
  const auto number = [&random] { return static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 128; };
  const int coefficients = 1 + static_cast<int>(random() % kHeadDim);
  kv::HeadCode head;
  for (int i = 0; i < kHeadDim; ++i) head.mean.push_back(number());
  for (int i = 0; i < coefficients * kHeadDim; ++i) {
    head.analysis.push_back(static_cast<uint16_t>(random() % 0x7c00));
    head.synthesis.push_back(static_cast<uint16_t>(random() % 0x7c00));
  }
  for (int end = 1; end < coefficients; end += 2) head.group_ends.push_back(end);
  head.group_ends.push_back(coefficients);
  for (int i = 0; i < coefficients; ++i) head.centroid_scale.push_back(number());
  for (int i = 0; i < coefficients * entries; ++i) {
    head.centroids.push_back(static_cast<int8_t>(static_cast<int>(random() % 255) - 127));
  }
  return head;
}

}  // namespace

kv::Calibration TinyCalibration(const std::string& codec, int layers, int heads) {
  std::mt19937 random(static_cast<uint32_t>(codec.size() + codec[0]));
  kv::Calibration calibration;
  calibration.codec = codec;
  calibration.entries = codec.starts_with("cq") ? kv::kCentroids : kv::kMirroredEntries;
  for (int layer = 0; layer < layers; ++layer) {
    kv::LayerCode& code = calibration.layers.emplace_back();
    for (int head = 0; head < heads; ++head) {
      code.keys.push_back(TinyHead(calibration.entries, random));
      code.values.push_back(TinyHead(calibration.entries, random));
    }
  }
  return calibration;
}

CalibrationFile TinyCalibrationFile() {
  CalibrationFile file;
  file.provenance = {std::string(64, 'a'), std::string(64, '1'), "random, for tests", ~uint64_t{0}, 12345};
  file.codecs = {TinyCalibration("klt2", 2, 2), TinyCalibration("cq1", 1, 1)};
  return file;
}

}  // namespace nibble::engine
