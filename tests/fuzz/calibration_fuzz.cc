// Any bytes as a `.nibblekv` file. What is accepted must be read again from what is written of it, bit for bit.
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "engine/quant/calibration/calibration_file.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

void CheckHead(const kv::HeadCode& head, int entries) {
  const size_t coefficients = head.centroid_scale.size(), dim = head.mean.size();
  NIBBLE_CHECK(dim > 0 && head.analysis.size() == coefficients * dim && head.synthesis.size() == coefficients * dim);
  NIBBLE_CHECK(head.centroids.size() == coefficients * static_cast<size_t>(entries));
}

void CheckCodec(const kv::Calibration& codec) {
  NIBBLE_CHECK(!codec.layers.empty());
  NIBBLE_CHECK(codec.entries == kv::kCentroids || codec.entries == kv::kMirroredEntries);
  for (const kv::LayerCode& layer : codec.layers) {
    NIBBLE_CHECK(!layer.keys.empty() && layer.keys.size() == layer.values.size());
    for (const auto* heads : {&layer.keys, &layer.values}) {
      for (const kv::HeadCode& head : *heads) CheckHead(head, codec.entries);
    }
  }
}

void ParseAll(absl::Span<const std::byte> bytes) {
  const auto file = ParseCalibration(bytes);
  if (!file.ok()) return;
  for (const kv::Calibration& codec : file->codecs) CheckCodec(codec);
  const std::string written = SerializeCalibration(*file);
  const auto again = ParseCalibration({reinterpret_cast<const std::byte*>(written.data()), written.size()});
  NIBBLE_CHECK(again.ok() && SerializeCalibration(*again) == written);
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::ParseAll({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
