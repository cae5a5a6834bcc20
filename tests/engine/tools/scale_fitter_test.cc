#include "engine/tools/scale_fitter.h"

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/adapters/compress.h"
#include "engine/weights/layer_products.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

constexpr int64_t kTokens = 24, kCols = 40, kRows = 70;
constexpr char kName[] = "blk.0.attn_q.weight";

using Floats = std::vector<float>;

Floats Random(size_t count, float scale, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  Floats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::unique_ptr<WeightSource> OneMatrix(const Floats& values) {
  return MakeWeightSource({{kName,
                            Encoding::kF32,
                            {kRows, kCols},
                            {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)}}},
                          nullptr);
}

class ScaleFitterTest : public testing::Test {
 protected:
  ScaleFitterTest() {
    for (size_t i = 0; i < base_.size(); ++i) tuned_[i] += base_[i];
    // Inputs of which some channels are far larger: there the mean magnitude is a poor scale.
    for (size_t i = 0; i < x_.size(); ++i) x_[i] *= i % kCols < 3 ? 20.0f : 1.0f;
  }

  bool ShowTo(ScaleFitter& fitter, const WeightSource& base) {
    const Tensor* const part = base.Find(kName);
    return fitter.OnProduct({0, Product::kDown, {&part, 1}, {x_.data(), kTokens, kCols}});
  }

  DeltaFile Fitted(int64_t planes, bool per_row) {
    const auto base = OneMatrix(base_), tuned = OneMatrix(tuned_);
    DeltaFile delta = *CompressDelta(*base, *tuned, {planes, per_row}, [](int64_t, int64_t) {});
    ScaleFitter fitter(*base, *tuned, &delta, *pool_, [](int64_t, int64_t) {});
    EXPECT_TRUE(ShowTo(fitter, *base));
    EXPECT_THAT(fitter.status(), IsOk());
    return delta;
  }

  // <X d, X s> and ||X s||^2, added up over the rows [first, last).
  std::pair<double, double> Products(const SignDelta& delta, int64_t plane, int64_t first, int64_t last) const {
    double cross = 0, square = 0;
    for (int64_t row = first; row < last; ++row) {
      for (int64_t t = 0; t < kTokens; ++t) {
        double d = 0, s = 0;
        for (int64_t c = 0; c < kCols; ++c) {
          const auto sign = [&](int64_t p) { return delta.SignsOf(p, row)[c / 32] >> (c % 32) & 1 ? 1.0 : -1.0; };
          double rest = double{tuned_[row * kCols + c]} - base_[row * kCols + c];
          for (int64_t p = 0; p < plane; ++p) rest -= delta.ScaleOf(p, row) * sign(p);
          d += x_[t * kCols + c] * rest;
          s += x_[t * kCols + c] * sign(plane);
        }
        cross += d * s;
        square += s * s;
      }
    }
    return {cross, square};
  }

  Floats base_ = Random(kRows * kCols, 1.0f, 1), tuned_ = Random(kRows * kCols, 0.1f, 2);
  Floats x_ = Random(kTokens * kCols, 1.0f, 3);
  const std::unique_ptr<WorkerPool> pool_ = *WorkerPool::Create(2);
};

TEST_F(ScaleFitterTest, ScalesAreTheLeastSquaresOnes) {
  for (const int64_t planes : {1, 2}) {
    for (const bool per_row : {false, true}) {
      const DeltaFile delta = Fitted(planes, per_row);
      const SignDelta& signs = delta.signs.at(kName);
      for (int64_t plane = 0; plane < planes; ++plane) {
        for (int64_t row = 0; row < (per_row ? kRows : 1); ++row) {
          const auto [cross, square] = Products(signs, plane, row, per_row ? row + 1 : kRows);
          EXPECT_NEAR(signs.ScaleOf(plane, row), cross / square, 1e-4 * std::fabs(cross / square) + 1e-6);
        }
      }
    }
  }
}

TEST_F(ScaleFitterTest, InputsThatSeeNothingLeaveTheMean) {
  std::fill(x_.begin(), x_.end(), 0.0f);
  const auto base = OneMatrix(base_), tuned = OneMatrix(tuned_);
  const DeltaFile mean = *CompressDelta(*base, *tuned, {}, [](int64_t, int64_t) {});
  EXPECT_EQ(Fitted(1, false).signs.at(kName).ScaleOf(0, 0), mean.signs.at(kName).ScaleOf(0, 0));
}

TEST_F(ScaleFitterTest, ScalesThatAreNotFiniteAreRefused) {
  x_[7] = INFINITY;
  const auto base = OneMatrix(base_), tuned = OneMatrix(tuned_);
  DeltaFile delta = *CompressDelta(*base, *tuned, {}, [](int64_t, int64_t) {});
  ScaleFitter fitter(*base, *tuned, &delta, *pool_, [](int64_t, int64_t) {});
  ShowTo(fitter, *base);
  EXPECT_THAT(fitter.status(), StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr(kName)));
}

// A fine-tune of a tiny model: its projections moved, each in its own way.
class Moved : public RowDelta {
 public:
  explicit Moved(uint32_t seed) : seed_(seed) {}
  void AddTo(int64_t row, absl::Span<float> values) const override {
    const Floats moves = Random(values.size(), 0.03f, seed_ * 1000 + static_cast<uint32_t>(row));
    for (size_t i = 0; i < values.size(); ++i) values[i] += moves[i];
  }

 private:
  const uint32_t seed_;
};

// X comes from the model as compressed so far, with the scales fitted so far. So a second fit, which starts from fitted
// scales, changes nothing; had the first seen any other X, it would.
TEST(FitScales, InputsAreThoseOfTheModelAsAlreadyCompressed) {
  for (const char* name : {"tiny-llama-f32", "tiny-qwen3-f16"}) {
    const OpenedModel base = OpenTinyModel(name);
    std::vector<Tensor> tensors(base.file.weights->tensors().begin(), base.file.weights->tensors().end());
    std::vector<std::unique_ptr<Moved>> moves;
    for (Tensor& tensor : tensors) {
      if (!IsProjection(tensor.name)) continue;
      moves.push_back(std::make_unique<Moved>(static_cast<uint32_t>(moves.size())));
      tensor.delta = moves.back().get();
    }
    const auto tuned = MakeWeightSource(tensors, nullptr);
    const auto nothing = [](int64_t, int64_t) {};
    DeltaFile delta = *CompressDelta(*base.file.weights, *tuned, {.planes = 1, .scale_per_row = true}, nothing);
    ASSERT_EQ(delta.signs.size(), moves.size());
    const std::string mean = SerializeDelta(delta);
    const std::vector<int32_t> ids = SomeIds(256);
    const ChunkOptions chunks = {64, 4};
    ASSERT_THAT(FitScales(base, *tuned, ids, chunks, nothing, &delta), IsOk());
    const std::string fitted = SerializeDelta(delta);
    EXPECT_NE(fitted, mean);
    ASSERT_THAT(FitScales(base, *tuned, ids, chunks, nothing, &delta), IsOk());
    EXPECT_EQ(SerializeDelta(delta), fitted);
    EXPECT_THAT(FitScales(base, *tuned, ids, {257, 1}, nothing, &delta),
                StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("")));
  }
}

}  // namespace
}  // namespace nibble::engine
