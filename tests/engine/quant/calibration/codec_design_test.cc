// Calibrations made of statistics that are known: sizes, validity, loss against water-filling, degenerate heads.
#include "engine/quant/calibration/codec_design.h"

#include <cmath>
#include <functional>
#include <random>

#include "engine/quant/calibration/klt.h"
#include "engine/quant/calibration/rate_allocation.h"
#include "gmock/gmock.h"
#include "kvcache/codecs/coupled.h"
#include "kvcache/simd/half.h"
#include "tests/base/status_matchers.h"
#include "tests/kvcache/codecs/coupled_twin.h"

namespace nibble::engine {
namespace {

constexpr int kLayers = 2, kHeads = 2;
using Floats = std::vector<float>;

void InOrder(int64_t count, const std::function<void(int64_t)>& body) {
  for (int64_t i = 0; i < count; ++i) body(i);
}
void Backwards(int64_t count, const std::function<void(int64_t)>& body) {
  for (int64_t i = count - 1; i >= 0; --i) body(i);
}

DesignOptions Options() {
  DesignOptions options;
  options.seed = 5;
  options.iterations = 6;
  options.isa = simd::SupportedIsas().back();
  return options;
}

// vector(t): the t-th vector of the head.
void Fill(VectorStatistics& head, int64_t count, float weight, const std::function<Floats(int64_t)>& vector,
          const std::vector<double>& metric) {
  Floats vectors;
  for (int64_t t = 0; t < count; ++t) {
    const Floats x = vector(t);
    vectors.insert(vectors.end(), x.begin(), x.end());
  }
  head.Add(vectors, Floats(static_cast<size_t>(count), weight), count, 1);
  head.AddMetric(metric, weight);
}

// Gaussian vectors of falling variances, mixed; every head has its own mean, size and share.
KvStatistics Gaussian(int dim, int64_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  KvStatistics statistics = EmptyStatistics(kLayers, kHeads, dim);
  float weight = 1.0f;
  for (KvStatistics::Layer& layer : statistics.layers) {
    for (std::vector<VectorStatistics>* side : {&layer.keys, &layer.values}) {
      for (VectorStatistics& head : *side) {
        Floats mix(static_cast<size_t>(dim * dim));
        for (float& x : mix) x = normal(random);
        std::vector<double> metric(mix.size());
        for (int i = 0; i < dim; ++i) {
          for (int j = 0; j < dim; ++j) {
            for (int k = 0; k < dim; ++k) metric[i * dim + j] += double{mix[k * dim + i]} * mix[k * dim + j];
          }
        }
        const auto vector = [&](int64_t) {
          Floats x(static_cast<size_t>(dim), 5.0f);
          for (int d = 0; d < dim; ++d) {
            const float z = std::exp2(-0.1f * static_cast<float>(d)) * normal(random);
            for (int i = 0; i < dim; ++i) x[i] += z * mix[d * dim + i];
          }
          return x;
        };
        Fill(head, count, weight, vector, metric);
        weight *= 0.7f;
      }
    }
  }
  return statistics;
}

// All heads alike.
KvStatistics Uniform(int dim, int64_t count, float weight, const std::function<Floats(int64_t)>& vector) {
  std::vector<double> metric(static_cast<size_t>(dim * dim));
  for (int d = 0; d < dim; ++d) metric[static_cast<size_t>(d * dim + d)] = 1.0;
  KvStatistics statistics = EmptyStatistics(kLayers, kHeads, dim);
  for (KvStatistics::Layer& layer : statistics.layers) {
    for (VectorStatistics& head : layer.keys) Fill(head, count, weight, vector, metric);
    for (VectorStatistics& head : layer.values) Fill(head, count, weight, vector, metric);
  }
  return statistics;
}

kv::CodecModel Model(int dim) {
  kv::CodecModel model;
  model.num_layers = kLayers;
  model.num_kv_heads = kHeads;
  model.head_dim = dim;
  model.max_pages = 4;
  model.ropes = {{false, {1.0, 0.1}}};
  model.rope_of_layer = {0, 0};
  return model;
}

void ForEachHead(const kv::Calibration& calibration, const std::function<void(const kv::HeadCode&)>& visit) {
  for (const kv::LayerCode& layer : calibration.layers) {
    for (const kv::HeadCode& code : layer.keys) visit(code);
    for (const kv::HeadCode& code : layer.values) visit(code);
  }
}

// Makes the codec of it, on every instruction set; the report holds no number that is not one.
void ExpectValid(const DesignedCodec& designed, int dim) {
  for (const simd::Isa isa : simd::SupportedIsas()) {
    EXPECT_THAT(kv::CreateCoupled(designed.calibration.codec, Model(dim), &designed.calibration, isa), IsOk());
  }
  EXPECT_TRUE(std::isfinite(designed.report.distortion));
  for (const auto* side : {&designed.report.keys, &designed.report.values}) {
    ASSERT_EQ(side->size(), size_t{kLayers});
    for (const DesignShare& share : *side) {
      EXPECT_TRUE(std::isfinite(share.loss) && share.loss >= 0) << share.loss;
      EXPECT_TRUE(std::isfinite(share.variance) && share.variance >= 0) << share.variance;
      EXPECT_GT(share.bits, 0.0);
    }
  }
}

bool Same(const kv::HeadCode& a, const kv::HeadCode& b) {
  return a.mean == b.mean && a.analysis == b.analysis && a.synthesis == b.synthesis && a.group_ends == b.group_ends &&
         a.centroid_scale == b.centroid_scale && a.centroids == b.centroids;
}

bool Same(const kv::Calibration& a, const kv::Calibration& b) {
  std::vector<kv::HeadCode> of_a;
  ForEachHead(a, [&](const kv::HeadCode& code) { of_a.push_back(code); });
  size_t i = 0;
  bool same = a.codec == b.codec && a.entries == b.entries;
  ForEachHead(b, [&](const kv::HeadCode& code) { same = same && Same(of_a[i++], code); });
  return same;
}

double Loss(const DesignReport& report) {
  double loss = 0.0;
  for (const DesignShare& share : report.keys) loss += share.loss;
  for (const DesignShare& share : report.values) loss += share.loss;
  return loss;
}

TEST(CodecDesigns, AreFoundByName) {
  EXPECT_EQ(CodecDesigns().size(), 5u);
  for (const CodecDesign& design : CodecDesigns()) {
    EXPECT_EQ(FindCodecDesign(design.name), &design);
    ASSERT_NE(kv::FindCodec(design.name), nullptr);
    EXPECT_TRUE(kv::FindCodec(design.name)->calibrated);
  }
  EXPECT_EQ(FindCodecDesign("int8"), nullptr);
}

class EveryDesign : public testing::TestWithParam<const char*> {
 protected:
  const CodecDesign& design() const { return *FindCodecDesign(GetParam()); }
};

TEST_P(EveryDesign, HasTheBitsAskedForAndMakesACodec) {
  for (const int dim : {16, 48}) {
    const DesignedCodec designed = DesignCodec(design(), Gaussian(dim, 300), Options(), InOrder);
    EXPECT_EQ(designed.calibration.codec, GetParam());
    ExpectValid(designed, dim);
    double bits = 0.0;
    ForEachHead(designed.calibration, [&](const kv::HeadCode& code) { bits += 8.0 * code.groups(); });
    const double elements = 2.0 * kLayers * kHeads * dim;
    EXPECT_NEAR(bits, design().bits * elements, 7.9);
    EXPECT_NEAR(designed.report.bits, bits / elements, 1e-12);
    double by_layer = 0.0;
    for (const DesignShare& share : designed.report.keys) by_layer += share.bits / (2 * kLayers);
    for (const DesignShare& share : designed.report.values) by_layer += share.bits / (2 * kLayers);
    EXPECT_NEAR(by_layer, designed.report.bits, 1e-12);
  }
}

TEST_P(EveryDesign, IsTheSameInAnyOrderAndOnEveryInstructionSet) {
  const KvStatistics statistics = Gaussian(16, 300);
  DesignOptions options = Options();
  const DesignedCodec want = DesignCodec(design(), statistics, options, InOrder);
  EXPECT_TRUE(Same(DesignCodec(design(), statistics, options, Backwards).calibration, want.calibration));
  for (const simd::Isa isa : simd::SupportedIsas()) {
    options.isa = isa;
    const DesignedCodec got = DesignCodec(design(), statistics, options, Backwards);
    EXPECT_TRUE(Same(got.calibration, want.calibration)) << simd::Name(isa);
    EXPECT_EQ(got.report.distortion, want.report.distortion) << simd::Name(isa);
  }
  options.seed = 6;
  EXPECT_FALSE(Same(DesignCodec(design(), statistics, options, InOrder).calibration, want.calibration));
}

// Heads that a model with dead or wild channels gives.
TEST_P(EveryDesign, MakesACodecOfDegenerateHeads) {
  constexpr int kDim = 16;
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  const auto gaussian = [&] {
    Floats x(kDim);
    for (float& a : x) a = normal(random);
    return x;
  };
  const Floats direction = gaussian();
  const std::pair<const char*, std::function<Floats(int64_t)>> kHeadsOf[] = {
      {"nothing", [](int64_t) { return Floats(kDim, 0.0f); }},
      {"one vector", [&](int64_t) { return direction; }},
      {"one large vector", [&](int64_t) { return Floats(kDim, 60000.0f); }},
      {"a line",
       [&](int64_t t) {
         Floats x = direction;
         for (float& a : x) a *= static_cast<float>(t % 50) - 20;
         return x;
       }},
      {"one channel",
       [&](int64_t) {
         Floats x(kDim, 0.0f);
         x[3] = normal(random);
         return x;
       }},
      {"one huge channel",
       [&](int64_t) {
         Floats x = gaussian();
         x[5] = 9000.0f * normal(random);
         return x;
       }},
      {"beyond half precision",
       [&](int64_t) {
         Floats x = gaussian();
         x[5] = 90000.0f;
         return x;
       }},
      {"tiny channels",
       [&](int64_t) {
         Floats x = gaussian();
         for (float& a : x) a *= 1e-6f;
         return x;
       }},
  };
  for (const auto& [name, vector] : kHeadsOf) {
    for (const float weight : {1.0f, 1e-12f, 1e-30f, 1e12f}) {
      SCOPED_TRACE(testing::Message() << name << ", weight " << weight);
      ExpectValid(DesignCodec(design(), Uniform(kDim, 48, weight, vector), Options(), InOrder), kDim);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Designs, EveryDesign, testing::Values("cq1", "cq2", "klt1", "klt2", "klt3"));

TEST(CodecDesign, CoupledChannelsStayAsTheyAre) {
  for (const int coupled : {4, 8}) {
    const CodecDesign& design = *FindCodecDesign(coupled == 4 ? "cq2" : "cq1");
    const DesignedCodec designed = DesignCodec(design, Gaussian(16, 100), Options(), InOrder);
    ForEachHead(designed.calibration, [&](const kv::HeadCode& code) {
      EXPECT_EQ(code.coefficients(), 16);
      EXPECT_EQ(code.groups(), 16 / coupled);
      EXPECT_EQ(code.mean, Floats(16, 0.0f));
      EXPECT_EQ(code.analysis, code.synthesis);
      for (size_t i = 0; i < 256; ++i) {
        EXPECT_EQ(simd::HalfToFloat(code.analysis[i]), i % 17 == 0 ? 1.0f : 0.0f);
      }
    });
  }
}

TEST(CodecDesign, MoreBitsLoseLess) {
  const KvStatistics statistics = Gaussian(32, 1500);
  const auto distortion = [&](std::string_view name) {
    return DesignCodec(*FindCodecDesign(name), statistics, Options(), InOrder).report.distortion;
  };
  const double klt1 = distortion("klt1"), klt2 = distortion("klt2"), klt3 = distortion("klt3");
  const double cq1 = distortion("cq1"), cq2 = distortion("cq2");
  EXPECT_LT(klt3, klt2);
  EXPECT_LT(klt2, klt1);
  EXPECT_LT(klt1, 1.0);
  EXPECT_LT(cq2, cq1);
  EXPECT_LT(klt1, cq1);
  EXPECT_LT(klt2, cq2);
}

// What Gaussian heads would lose at the bound, with the same codes.
double Bound(const KvStatistics& statistics, double bits) {
  std::vector<std::vector<double>> variances;
  for (const KvStatistics::Layer& layer : statistics.layers) {
    for (const auto* side : {&layer.keys, &layer.values}) {
      for (const VectorStatistics& head : *side) {
        variances.push_back(MakeKlt(head, Options().shrinkage).variances);
        for (double& variance : variances.back()) variance *= head.weight;
      }
    }
  }
  const auto total = static_cast<int64_t>(bits * statistics.head_dim * static_cast<double>(variances.size()) / 8);
  const std::vector<int> groups = AllocateGroups(variances, total);
  double loss = 0.0;
  for (size_t h = 0; h < groups.size(); ++h) loss += ReverseWaterFill(variances[h], 8.0 * groups[h]).distortion;
  return loss;
}

TEST(CodecDesign, LosesLittleMoreThanWaterFillingPredicts) {
  const KvStatistics statistics = Gaussian(32, 4000);
  for (const char* name : {"klt1", "klt2", "klt3"}) {
    const CodecDesign& design = *FindCodecDesign(name);
    const double loss = Loss(DesignCodec(design, statistics, Options(), InOrder).report);
    const double bound = Bound(statistics, design.bits);
    // A code of one coefficient alone would lose 2.7 times the bound (Panter & Dite); those of several do better.
    EXPECT_GT(loss, 0.95 * bound) << name << ": nothing beats the bound";
    EXPECT_LT(loss, 2.3 * bound) << name;
  }
}

// The bytes that the codec makes of the samples kept back lose what the report says.
TEST(CodecDesign, TheCodecLosesWhatIsReported) {
  constexpr int kDim = 16;
  const KvStatistics statistics = Gaussian(kDim, 1600);
  const DesignedCodec designed = DesignCodec(*FindCodecDesign("klt2"), statistics, Options(), InOrder);
  const auto codec = kv::CreateCoupled("klt2", Model(kDim), &designed.calibration, simd::SupportedIsas().back());
  ASSERT_THAT(codec, IsOk());
  double reported = 0.0, lost = 0.0;
  for (size_t layer = 0; layer < kLayers; ++layer) {
    reported += designed.report.values[layer].loss;
    for (size_t h = 0; h < kHeads; ++h) {
      const VectorStatistics& head = statistics.layers[layer].values[h];
      const kv::LayerCode& code = designed.calibration.layers[layer];
      const kv::Rope rope;
      const kv::CoupledTwin twin(code.keys[h], code.values[h], designed.calibration.entries, rope);
      const std::vector<double> metric = UnitMetric(head, 0.0);
      std::vector<std::byte> page(static_cast<size_t>(twin.head_bytes()));
      double loss = 0.0, weight = 0.0;
      for (size_t s = 7; s < head.sample_weights.size(); s += 8) {
        Floats x;
        for (size_t d = 0; d < kDim; ++d) x.push_back(simd::HalfToFloat(head.samples[s * kDim + d]));
        const std::vector<int> codes = twin.ValueCodes(x);
        for (size_t g = 0; g < codes.size(); ++g) {
          page[static_cast<size_t>(twin.key_bytes()) + 32 * g] = static_cast<std::byte>(codes[g]);
        }
        const std::vector<double> restored = twin.Value(page.data(), 0);
        for (size_t i = 0; i < kDim; ++i) {
          for (size_t j = 0; j < kDim; ++j) {
            loss += head.sample_weights[s] * (restored[i] - x[i]) * metric[i * kDim + j] * (restored[j] - x[j]);
          }
        }
        weight += head.sample_weights[s];
      }
      lost += loss / weight * head.weight;
    }
  }
  EXPECT_NEAR(lost, reported, 1e-4 * reported);
}

}  // namespace
}  // namespace nibble::engine
