// Keys turned back carry RoPE by the position in their span alone.
#include "engine/quant/calibration/span_frame.h"

#include <cmath>
#include <random>

#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

constexpr int kDim = 24, kPairs = 8;  // eight channels do not turn
constexpr int64_t kPages = 19;

class SpanFrames : public testing::TestWithParam<bool> {
 protected:
  SpanFrames() {
    rope_.interleaved = GetParam();
    for (int i = 0; i < kPairs; ++i) rope_.frequencies.push_back(std::pow(0.02, i / 8.0));
  }

  std::vector<float> Normal() {
    std::normal_distribution<float> normal;
    std::vector<float> x(kDim);
    for (float& a : x) a = normal(random_);
    return x;
  }

  // RoPE as its definition says.
  std::vector<float> Turn(const std::vector<float>& x, int64_t position) const {
    std::vector<float> y = x;
    for (int i = 0; i < kPairs; ++i) {
      const size_t first = rope_.interleaved ? 2 * i : i, second = rope_.interleaved ? 2 * i + 1 : i + kPairs;
      const double angle = static_cast<double>(position) * rope_.frequencies[static_cast<size_t>(i)];
      y[first] = static_cast<float>(x[first] * std::cos(angle) - x[second] * std::sin(angle));
      y[second] = static_cast<float>(x[first] * std::sin(angle) + x[second] * std::cos(angle));
    }
    return y;
  }

  kv::Rope rope_;
  std::mt19937 random_{7};
};

TEST_P(SpanFrames, AKeyTurnedBackHasRopeByItsPlaceInTheSpan) {
  const SpanFrame frame(rope_, kPages);
  for (int64_t position = 0; position < kPages * 32; position += 3) {
    const std::vector<float> key = Normal(), want = Turn(key, position % 256);
    std::vector<float> turned = Turn(key, position);
    frame.TurnBack(position / 32, turned.data());
    for (size_t d = 0; d < kDim; ++d) EXPECT_NEAR(turned[d], want[d], 2e-6) << "channel " << d << " at " << position;
    for (size_t d = 2 * kPairs; d < kDim; ++d) EXPECT_EQ(turned[d], key[d]);
  }
}

TEST_P(SpanFrames, ScoresStay) {
  const SpanFrame frame(rope_, kPages);
  for (int64_t page = 0; page < kPages; ++page) {
    std::vector<float> query = Normal(), key = Normal();
    const auto score = [&] {
      double sum = 0.0;
      for (size_t d = 0; d < kDim; ++d) sum += double{query[d]} * key[d];
      return sum;
    };
    const double before = score();
    frame.TurnBack(page, query.data());
    frame.TurnBack(page, key.data());
    EXPECT_NEAR(score(), before, 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, SpanFrames, testing::Bool());

}  // namespace
}  // namespace nibble::engine
