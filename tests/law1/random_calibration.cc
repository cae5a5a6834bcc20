#include "tests/law1/random_calibration.h"

#include <cmath>
#include <random>

#include "kvcache/simd/half.h"

namespace nibble {
namespace {

class Maker {
 public:
  Maker(bool identity, double bits, int head_dim, uint32_t seed)
      : identity_(identity), bits_(bits), dim_(head_dim), random_(seed) {}

  kv::HeadCode Head() {
    kv::HeadCode head;
    // Ragged: some coefficients are not kept, and groups differ in size.
    const int coefficients = identity_ ? dim_ : dim_ - 1 - static_cast<int>(random_() % 5);
    const int groups = static_cast<int>(bits_ * dim_ / 8);
    for (int g = 1; g <= groups; ++g) head.group_ends.push_back(coefficients * g / groups);
    head.mean.assign(dim_, 0.0f);
    std::vector<float> analysis(coefficients * dim_, 0.0f), synthesis(dim_ * coefficients, 0.0f);
    for (int i = 0; i < coefficients; ++i) analysis[i * dim_ + i] = synthesis[i * coefficients + i] = 1.0f;
    if (!identity_) {
      for (auto* values : {&head.mean, &analysis, &synthesis}) {
        for (float& value : *values) value += 0.3f * Normal() / std::sqrt(static_cast<float>(dim_));
      }
    }
    for (const float value : analysis) head.analysis.push_back(simd::FloatToHalf(value));
    for (const float value : synthesis) head.synthesis.push_back(simd::FloatToHalf(value));
    for (int i = 0; i < coefficients; ++i) {
      head.centroid_scale.push_back(0.02f + 0.001f * static_cast<float>(i % 7));
      for (int c = 0; c < (identity_ ? kv::kCentroids : kv::kMirroredEntries); ++c) {
        head.centroids.push_back(static_cast<int8_t>(static_cast<int>(random_() % 255) - 127));
      }
    }
    return head;
  }

 private:
  float Normal() { return std::normal_distribution<float>()(random_); }

  const bool identity_;
  const double bits_;
  const int dim_;
  std::mt19937 random_;
};

}  // namespace

std::shared_ptr<const kv::Calibration> RandomCalibration(const std::string& codec, const kv::CodecModel& model) {
  const kv::Codec* found = kv::FindCodec(codec);
  if (found == nullptr || !found->calibrated) return nullptr;
  const double bits = codec.back() - '0';
  Maker maker(codec.starts_with("cq"), bits, model.head_dim, static_cast<uint32_t>(codec[0] + 256 * codec.back()));
  auto calibration = std::make_shared<kv::Calibration>();
  calibration->codec = codec;
  calibration->entries = codec.starts_with("cq") ? kv::kCentroids : kv::kMirroredEntries;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    kv::LayerCode& code = calibration->layers.emplace_back();
    for (int head = 0; head < model.num_kv_heads; ++head) {
      code.keys.push_back(maker.Head());
      code.values.push_back(maker.Head());
    }
  }
  return calibration;
}

}  // namespace nibble
