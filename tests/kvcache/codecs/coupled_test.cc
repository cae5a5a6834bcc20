// The coupled codecs against a naive twin: codes, scores and mixes bit for bit on every instruction set, for any number
// of rows and pages, with random calibrations; what reading loses against exact attention; calibrations that are
// refused.
#include "kvcache/codecs/coupled.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/simd/half.h"
#include "tests/kvcache/codecs/coupled_twin.h"

namespace nibble::kv {
namespace {

constexpr int kRows = 13;
constexpr int kPages = 11;
constexpr int kFirstPage = 6;  // so that runs cross spans, one of which they hold whole
constexpr int kLayers = 2, kHeads = 2;

using Random = std::mt19937;

int Uniform(int least, int most, Random& random) { return std::uniform_int_distribution<int>(least, most)(random); }

Floats Normal(int64_t size, float deviation, Random& random) {
  std::normal_distribution<float> normal(0.0f, deviation);
  Floats result(size);
  for (float& a : result) a = normal(random);
  return result;
}

std::vector<uint16_t> ToHalves(const Floats& numbers) {
  std::vector<uint16_t> halves;
  for (const float a : numbers) halves.push_back(simd::FloatToHalf(a));
  return halves;
}

// Groups of random sizes, some large; nothing is orthogonal.
HeadCode RandomCode(int dim, int coefficients, int entries, Random& random) {
  HeadCode code;
  code.mean = Normal(dim, 2.0f, random);
  code.analysis = ToHalves(Normal(coefficients * dim, 1.0f / std::sqrt(static_cast<float>(dim)), random));
  code.synthesis = ToHalves(Normal(coefficients * dim, 1.0f / std::sqrt(static_cast<float>(dim)), random));
  for (int j = 0; j < coefficients; ++j)
    code.centroid_scale.push_back(0.003f * static_cast<float>(Uniform(3, 20, random)));
  for (int j = 0; j < coefficients * entries; ++j)
    code.centroids.push_back(static_cast<int8_t>(Uniform(entries == kCentroids ? -128 : -127, 127, random)));
  for (int end = 0; end < coefficients;) {
    end = std::min(coefficients, end + (Uniform(0, 3, random) == 0 ? Uniform(6, 16, random) : Uniform(1, 5, random)));
    code.group_ends.push_back(end);
  }
  return code;
}

// Coupled Quantization: channels as they are.
HeadCode IdentityCode(int dim, int group, Random& random) {
  HeadCode code = RandomCode(dim, dim, kCentroids, random);
  code.mean.assign(dim, 0.0f);
  code.analysis.assign(dim * dim, 0);
  for (int i = 0; i < dim; ++i) code.analysis[i * dim + i] = simd::FloatToHalf(1.0f);
  code.synthesis = code.analysis;
  code.group_ends.clear();
  for (int end = group; end <= dim; end += group) code.group_ends.push_back(end);
  return code;
}

struct Case {
  const char* name;
  int head_dim;
  bool interleaved;
  int pairs;
  int coupled;  // channels of a group with identity transforms, or 0
  int entries = kCentroids;
};

struct Fixture {
  explicit Fixture(const Case& c) : random(c.head_dim + c.pairs) {
    model.num_layers = kLayers;
    model.num_kv_heads = kHeads;
    model.head_dim = c.head_dim;
    model.max_pages = kFirstPage + kPages;
    model.ropes.resize(2);
    model.rope_of_layer = {1, 0};
    for (int i = 0; i < c.pairs; ++i) model.ropes[0].frequencies.push_back(std::pow(0.01, 1.0 * i / c.pairs));
    model.ropes[0].interleaved = c.interleaved;
    calibration.codec = "klt2";
    calibration.entries = c.entries;
    calibration.layers.resize(kLayers);
    for (LayerCode& layer : calibration.layers) {
      for (int head = 0; head < kHeads; ++head) {
        layer.keys.push_back(Code(c));
        layer.values.push_back(Code(c));
      }
    }
  }

  HeadCode Code(const Case& c) {
    if (c.coupled > 0) return IdentityCode(c.head_dim, c.coupled, random);
    const int least = c.head_dim == 512 ? 512 : 1;  // the largest has all, so that arrays are full
    return RandomCode(c.head_dim, Uniform(least, c.head_dim, random), c.entries, random);
  }

  // The calibration goes away before the codec is used.
  absl::StatusOr<std::unique_ptr<PageCodec>> Create(simd::Isa isa) const {
    const auto copy = std::make_unique<Calibration>(calibration);
    return FindCodec("klt2")->create(model, copy.get(), isa);
  }
  CoupledTwin Twin(HeadId head) const {
    const LayerCode& layer = calibration.layers[head.layer];
    return {layer.keys[head.kv_head], layer.values[head.kv_head], calibration.entries,
            model.ropes[model.rope_of_layer[head.layer]]};
  }

  Random random;
  CodecModel model;
  Calibration calibration;
};

constexpr HeadId kHead = {1, 1};  // the one whose rope turns

class CoupledCodecs : public testing::TestWithParam<Case> {
 protected:
  CoupledCodecs() : fixture_(GetParam()), twin_(fixture_.Twin(kHead)) {
    for (int p = 0; p < kPages; ++p) {
      raw_.push_back(ToHalves(Normal(2 * kPageTokens * dim(), 2.0f, fixture_.random)));
      sealed_.emplace_back(twin_.head_bytes());
      for (std::byte& code : sealed_.back()) code = static_cast<std::byte>(Uniform(0, 255, fixture_.random));
    }
    for (const auto& page : sealed_) pages_.push_back(page.data());
    for (int r = 0; r < kRows; ++r) {
      queries_.push_back(Normal(dim(), 1.0f, fixture_.random));
      queries_[r][r % dim()] *= 10.0f;
    }
    queries_[1].assign(dim(), 0.0f);
  }

  int dim() const { return GetParam().head_dim; }
  PageRun Run(int pages) const { return {absl::MakeConstSpan(pages_).first(pages), kFirstPage}; }

  // check(codec) on every instruction set.
  void ForEachIsa(const std::function<void(const PageCodec&)>& check) const {
    for (const simd::Isa isa : simd::SupportedIsas()) {
      SCOPED_TRACE(std::string(simd::Name(isa)));
      auto codec = fixture_.Create(isa);
      ASSERT_TRUE(codec.ok()) << codec.status();
      check(**codec);
    }
  }

  std::vector<Floats> ReadScores(const PageCodec& codec, int rows, int pages) const {
    const int stride = kPages * kPageTokens + 3;
    Floats prepared(rows * codec.query_floats()), scores(rows * stride, -1.0f);
    codec.PrepareQueries(kHead, Flat(queries_, rows).data(), rows, prepared.data());
    codec.Scores(kHead, Run(pages), prepared.data(), rows, scores.data(), stride);
    std::vector<Floats> result;
    for (int r = 0; r < rows; ++r) {
      for (int t = pages * kPageTokens; t < stride; ++t) EXPECT_EQ(scores[r * stride + t], -1.0f);
      result.emplace_back(scores.begin() + r * stride, scores.begin() + r * stride + pages * kPageTokens);
    }
    return result;
  }

  // As a softmax has them before their sum divides them: 1 at most.
  Floats SomeWeights(int64_t count) {
    Floats weights = Normal(count, 2.0f, fixture_.random);
    for (float& weight : weights) weight = std::exp2(std::min(weight - 4.0f, 0.0f));
    return weights;
  }

  // Some tokens have none, and row 1 does not see page 2.
  std::vector<Floats> Weights() {
    std::vector<Floats> weights;
    for (int r = 0; r < kRows; ++r) {
      weights.push_back(SomeWeights(kPages * kPageTokens));
      for (int t = 0; t < kPages * kPageTokens; ++t) {
        if (t % 11 == r || (r == 1 && t / kPageTokens == 2)) weights[r][t] = 0.0f;
      }
    }
    return weights;
  }

  static Floats Flat(const std::vector<Floats>& rows, int count) {
    Floats flat;
    for (int r = 0; r < count; ++r) flat.insert(flat.end(), rows[r].begin(), rows[r].end());
    return flat;
  }
  static bool SameBits(const Floats& a, const Floats& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  Fixture fixture_;
  CoupledTwin twin_;
  std::vector<std::vector<uint16_t>> raw_;
  std::vector<std::vector<std::byte>> sealed_;
  std::vector<const std::byte*> pages_;
  std::vector<Floats> queries_;
};

TEST_P(CoupledCodecs, HeadsLieOneAfterAnother) {
  ForEachIsa([&](const PageCodec& codec) {
    int64_t offset = 0;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < kHeads; ++head) {
        EXPECT_EQ(codec.head_offset({layer, head}), offset);
        offset += fixture_.Twin({layer, head}).head_bytes();
      }
    }
    EXPECT_EQ(codec.page_bytes(), offset);
    EXPECT_GT(codec.table_bytes(), 0);
  });
}

TEST_P(CoupledCodecs, CodesAreTheNearestCentroids) {
  std::vector<std::byte> want(twin_.head_bytes());
  Floats key(dim()), value(dim());
  for (int t = 0; t < kPageTokens; ++t) {
    for (int i = 0; i < dim(); ++i) {
      key[i] = simd::HalfToFloat(raw_[0][i * kPageTokens + t]);
      value[i] = simd::HalfToFloat(raw_[0][(kPageTokens + t) * dim() + i]);
    }
    const int place = t % 16 / 4 * 8 + t / 16 * 4 + t % 4;
    int at = 0;
    for (const int code : twin_.KeyCodes(key, kFirstPage)) want[at + place] = std::byte(code), at += kPageTokens;
    for (const int code : twin_.ValueCodes(value)) want[at + t] = std::byte(code), at += kPageTokens;
  }
  ForEachIsa([&](const PageCodec& codec) {
    std::vector<std::byte> sealed(want.size());
    codec.Encode(kHead, kFirstPage, raw_[0].data(), sealed.data());
    EXPECT_EQ(sealed, want);
  });
}

TEST_P(CoupledCodecs, ScoresHaveTheBitsOfTheTwin) {
  std::vector<Floats> want(kRows);
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPages; ++p) {
      const Floats scores = twin_.Scores(pages_[p], kFirstPage + p, queries_[r]);
      want[r].insert(want[r].end(), scores.begin(), scores.end());
    }
  }
  ForEachIsa([&](const PageCodec& codec) {
    for (int rows = 1; rows <= kRows; ++rows) {
      const int pages = 1 + rows % kPages;
      const std::vector<Floats> scores = ReadScores(codec, rows, pages);
      for (int r = 0; r < rows; ++r) {
        EXPECT_TRUE(SameBits(scores[r], {want[r].begin(), want[r].begin() + pages * kPageTokens}))
            << "row " << r << " of " << rows << ", " << pages << " pages";
      }
    }
  });
}

TEST_P(CoupledCodecs, MixesHaveTheBitsOfTheTwin) {
  const std::vector<Floats> weights = Weights();
  for (int pages = 1; pages <= kPages; ++pages) {
    ForEachIsa([&](const PageCodec& codec) {
      std::vector<Floats> start, want, want_mixed(kRows, Floats(dim(), 0.25f));
      for (int r = 0; r < kRows; ++r) {
        start.push_back(Normal(codec.mix_floats(), 1.0f, fixture_.random));
        want.push_back(start[r]);
        for (int p = 0, end; p < pages; p = end) {
          end = std::min(pages, p + kSpanPages - (kFirstPage + p) % kSpanPages);
          const auto first = weights[r].begin();
          twin_.Mix(absl::MakeConstSpan(pages_).subspan(p, end - p),
                    {first + p * kPageTokens, first + end * kPageTokens}, &want[r]);
        }
        twin_.FinishMix(want[r], &want_mixed[r]);
      }
      const int coefficients = fixture_.calibration.layers[kHead.layer].values[kHead.kv_head].coefficients();
      for (int rows = pages; rows <= kRows; rows += 2) {
        Floats accumulators = Flat(start, rows), mixed(rows * dim(), 0.25f);
        codec.Mix(kHead, Run(pages), Flat(weights, rows).data(), kPages * kPageTokens, rows, accumulators.data());
        codec.FinishMix(kHead, accumulators.data(), rows, mixed.data());
        EXPECT_TRUE(SameBits(mixed, Flat(want_mixed, rows))) << rows << " rows, " << pages << " pages";
        for (int r = 0; r < rows; ++r) {
          const auto row = accumulators.begin() + r * codec.mix_floats();
          EXPECT_TRUE(SameBits({row, row + coefficients}, {want[r].begin(), want[r].begin() + coefficients})) << r;
          EXPECT_TRUE(
              SameBits({row + codec.mix_floats() - 16, row + codec.mix_floats()}, {want[r].end() - 16, want[r].end()}))
              << r;
        }
      }
    });
  }
}

// More than a block of rows, for which centroids are kept.
TEST_P(CoupledCodecs, ManyRowsHaveTheBitsOfEachAlone) {
  constexpr int kMany = 100, kStride = kPages * kPageTokens;
  const Floats queries = Normal(kMany * dim(), 1.0f, fixture_.random);
  const Floats weights = SomeWeights(kMany * kStride);
  ForEachIsa([&](const PageCodec& codec) {
    Floats prepared(kMany * codec.query_floats()), scores(kMany * kStride), score(kStride);
    codec.PrepareQueries(kHead, queries.data(), kMany, prepared.data());
    codec.Scores(kHead, Run(kPages), prepared.data(), kMany, scores.data(), kStride);
    Floats mixes(kMany * codec.mix_floats(), 0.0f), mix(codec.mix_floats());
    codec.Mix(kHead, Run(kPages), weights.data(), kStride, kMany, mixes.data());
    for (int r = 0; r < kMany; ++r) {
      codec.Scores(kHead, Run(kPages), prepared.data() + r * codec.query_floats(), 1, score.data(), kStride);
      EXPECT_TRUE(SameBits(score, {scores.begin() + r * kStride, scores.begin() + (r + 1) * kStride})) << "row " << r;
      std::fill(mix.begin(), mix.end(), 0.0f);
      codec.Mix(kHead, Run(kPages), weights.data() + r * kStride, kStride, 1, mix.data());
      const auto row = mixes.begin() + r * codec.mix_floats();
      EXPECT_TRUE(SameBits(mix, {row, row + codec.mix_floats()})) << "row " << r;
    }
  });
}

TEST_P(CoupledCodecs, APageWithoutWeightChangesNoBit) {
  ForEachIsa([&](const PageCodec& codec) {
    Floats before = Normal(codec.mix_floats(), 1.0f, fixture_.random);
    for (size_t i = 0; i < before.size(); i += 3) before[i] = -0.0f;
    const Floats weights(kPages * kPageTokens, 0.0f);
    Floats after = before;
    codec.Mix(kHead, Run(kPages), weights.data(), kPageTokens, 1, after.data());
    EXPECT_TRUE(SameBits(before, after));
  });
}

// As where a sliding window begins inside a span.
TEST_P(CoupledCodecs, PagesWithoutWeightAtEitherEndChangeNoBit) {
  ForEachIsa([&](const PageCodec& codec) {
    for (int first = 1; first < 4; ++first) {
      const int end = kPages - first;
      Floats weights(kPages * kPageTokens, 0.0f);
      const Floats seen = SomeWeights((end - first) * kPageTokens);
      std::copy(seen.begin(), seen.end(), weights.begin() + first * kPageTokens);
      Floats of_all(codec.mix_floats(), 0.0f), of_seen = of_all;
      codec.Mix(kHead, Run(kPages), weights.data(), kPages * kPageTokens, 1, of_all.data());
      const PageRun run = {absl::MakeConstSpan(pages_).subspan(first, end - first), kFirstPage + first};
      codec.Mix(kHead, run, seen.data(), kPages * kPageTokens, 1, of_seen.data());
      EXPECT_TRUE(SameBits(of_all, of_seen)) << "pages " << first << " to " << end;
    }
  });
}

// Against exact attention over what the bytes stand for: the reader's own share of the error.
TEST_P(CoupledCodecs, ReadingLosesLittle) {
  auto codec = fixture_.Create(simd::SupportedIsas().back());
  ASSERT_TRUE(codec.ok()) << codec.status();
  const std::vector<Floats> scores = ReadScores(**codec, kRows, kPages), weights = Weights();
  Floats accumulators(kRows * (*codec)->mix_floats(), 0.0f), mixed(kRows * dim(), 0.0f);
  (*codec)->Mix(kHead, Run(kPages), Flat(weights, kRows).data(), kPages * kPageTokens, kRows, accumulators.data());
  (*codec)->FinishMix(kHead, accumulators.data(), kRows, mixed.data());
  double score_error = 0, score_energy = 0, mix_error = 0, mix_energy = 0;
  std::vector<std::vector<double>> keys, values;
  for (int t = 0; t < kPages * kPageTokens; ++t) {
    keys.push_back(twin_.Key(pages_[t / kPageTokens], t % kPageTokens));
    values.push_back(twin_.Value(pages_[t / kPageTokens], t % kPageTokens));
  }
  const Floats& mean = fixture_.calibration.layers[kHead.layer].keys[kHead.kv_head].mean;
  for (int r = 0; r < kRows; ++r) {
    std::vector<double> exact(dim(), 0.0);
    for (int t = 0; t < kPages * kPageTokens; ++t) {
      const Floats q = twin_.TurnBack(queries_[r], kFirstPage + t / kPageTokens);
      const std::vector<double>&key = keys[t], &value = values[t];
      double score = 0, bias = 0;
      for (int i = 0; i < dim(); ++i) {
        score += q[i] * key[i], bias += double{q[i]} * mean[i];
        exact[i] += weights[r][t] * value[i];
      }
      score_error += (score - scores[r][t]) * (score - scores[r][t]);
      score_energy += (score - bias) * (score - bias);
    }
    for (int i = 0; i < dim(); ++i) {
      mix_error += (exact[i] - mixed[r * dim() + i]) * (exact[i] - mixed[r * dim() + i]);
      mix_energy += exact[i] * exact[i];
    }
  }
  // A step is 1/127 of a row's largest number, which stands out more among more of them.
  EXPECT_LT(std::sqrt(score_error / score_energy), dim() == 512 ? 0.03 : 0.02);
  EXPECT_LT(std::sqrt(mix_error / mix_energy), 0.01);
}

INSTANTIATE_TEST_SUITE_P(Coupled, CoupledCodecs,
                         testing::Values(Case{"Dim32", 32, false, 16, 0}, Case{"Dim48", 48, false, 24, 0},
                                         Case{"Dim64", 64, true, 32, 0}, Case{"Dim64Halves", 64, false, 32, 0},
                                         Case{"Dim64Cq2", 64, true, 32, 4}, Case{"Dim128Cq1", 128, false, 64, 8},
                                         Case{"Dim128Partial", 128, false, 24, 0},
                                         Case{"Dim256PartialInterleaved", 256, true, 12, 0},
                                         Case{"Dim32Mirrored", 32, false, 16, 0, kMirroredEntries},
                                         Case{"Dim64Mirrored", 64, true, 32, 0, kMirroredEntries},
                                         Case{"Dim128MirroredHalves", 128, false, 64, 0, kMirroredEntries},
                                         Case{"Dim512GroupsOfOne", 512, false, 128, 1},
                                         Case{"Dim512Mirrored", 512, false, 128, 0, kMirroredEntries}),
                         [](const auto& info) { return info.param.name; });

constexpr Case kSmall = {"", 32, false, 16, 0};
constexpr Case kSmallMirrored = {"", 32, false, 16, 0, kMirroredEntries};

class CoupledNumbers : public testing::TestWithParam<Case> {
 protected:
  CoupledNumbers() : fixture_(GetParam()), twin_(fixture_.Twin(kHead)), sealed_(twin_.head_bytes()) {}

  std::unique_ptr<PageCodec> Create(simd::Isa isa) const {
    auto codec = fixture_.Create(isa);
    EXPECT_TRUE(codec.ok()) << codec.status();
    return *std::move(codec);
  }
  PageRun OnePage() { return {{&page_, 1}, 1}; }

  Fixture fixture_;
  CoupledTwin twin_;
  std::vector<std::byte> sealed_;
  const std::byte* page_ = sealed_.data();
};

TEST_P(CoupledNumbers, QueriesThatAreNotFiniteSpoilTheirOwnRowAlone) {
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const auto codec = Create(isa);
    Floats queries(3 * 32, 1.0f), prepared(3 * codec->query_floats()), scores(3 * kPageTokens);
    queries[40] = HUGE_VALF;
    codec->PrepareQueries(kHead, queries.data(), 3, prepared.data());
    codec->Scores(kHead, OnePage(), prepared.data(), 3, scores.data(), kPageTokens);
    for (int t = 0; t < kPageTokens; ++t) {
      EXPECT_TRUE(std::isfinite(scores[t]));
      EXPECT_TRUE(std::isnan(scores[kPageTokens + t]));
      EXPECT_EQ(scores[t], scores[2 * kPageTokens + t]);
    }
  }
}

TEST_P(CoupledNumbers, WeightsThatAreNotFiniteSpoilTheirOwnRowAlone) {
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const auto codec = Create(isa);
    for (const int rows : {2, 3, 7}) {
      Floats weights(rows * kPageTokens, 0.5f), mixes(rows * codec->mix_floats(), 0.0f);
      weights[(rows - 1) * kPageTokens + 7] = HUGE_VALF;
      codec->Mix(kHead, OnePage(), weights.data(), kPageTokens, rows, mixes.data());
      const int coefficients = fixture_.calibration.layers[kHead.layer].values[kHead.kv_head].coefficients();
      for (int r = 0; r < rows; ++r) {
        for (int i = 0; i < coefficients; ++i) {
          const float mix = mixes[r * codec->mix_floats() + i];
          EXPECT_TRUE(r < rows - 1 ? mix == mixes[i] : std::isnan(mix)) << "row " << r << " of " << rows << ", " << mix;
        }
      }
    }
  }
}

TEST_P(CoupledNumbers, RawNumbersThatAreNotFiniteHaveTheSameCodesEverywhere) {
  std::vector<uint16_t> raw(2 * kPageTokens * 32);
  for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<uint16_t>(i % 3 == 0 ? 0x7C00 : i % 5 == 0 ? 0x7E01 : i);
  std::vector<std::vector<std::byte>> sealed;
  for (const simd::Isa isa : simd::SupportedIsas()) {
    sealed.emplace_back(sealed_.size());
    Create(isa)->Encode(kHead, 2, raw.data(), sealed.back().data());
    EXPECT_EQ(sealed.back(), sealed.front()) << simd::Name(isa);
  }
}

// Entries 5, 9 and 41 are as near to nothing as each other, with any signs.
TEST_P(CoupledNumbers, TiesGoToTheFirstEntryWithoutSigns) {
  const int entries = fixture_.calibration.entries;
  LayerCode& layer = fixture_.calibration.layers[kHead.layer];
  for (HeadCode* code : {&layer.keys[kHead.kv_head], &layer.values[kHead.kv_head]}) {
    code->mean.assign(code->mean.size(), 0.0f);
    for (int j = 0; j < code->coefficients(); ++j) {
      for (int k = 0; k < entries; ++k)
        code->centroids[j * entries + k] = static_cast<int8_t>(k == 5 ? 1 : k == 9 || k == 41 ? -1 : 3);
    }
  }
  const std::vector<uint16_t> raw(2 * kPageTokens * 32, 0);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    Create(isa)->Encode(kHead, 2, raw.data(), sealed_.data());
    EXPECT_THAT(sealed_, testing::Each(std::byte{5})) << simd::Name(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Coupled, CoupledNumbers, testing::Values(kSmall, kSmallMirrored),
                         [](const auto& info) { return info.param.entries == kCentroids ? "Centroids" : "Mirrored"; });

struct Damage {
  const char* what;  // of the message
  void (*damage)(Fixture* fixture);
};
HeadCode& KeysOf(Fixture* f) { return f->calibration.layers[1].keys[0]; }
HeadCode& ValuesOf(Fixture* f) { return f->calibration.layers[0].values[1]; }
constexpr Damage kDamages[] = {
    {"for codec klt3, not klt2", [](Fixture* f) { f->calibration.codec = "klt3"; }},
    {"1 layers for a model of 2", [](Fixture* f) { f->calibration.layers.pop_back(); }},
    {"layer 0 has 1 heads of values", [](Fixture* f) { f->calibration.layers[0].values.pop_back(); }},
    {"layer 1, head 0, keys: mean has 31", [](Fixture* f) { KeysOf(f).mean.pop_back(); }},
    {"layer 0, head 1, values: mean holds", [](Fixture* f) { ValuesOf(f).mean[3] = HUGE_VALF; }},
    {"layer 1, head 0, keys: analysis has", [](Fixture* f) { KeysOf(f).analysis.push_back(0); }},
    {"layer 1, head 0, keys: analysis holds", [](Fixture* f) { KeysOf(f).analysis.back() = 0x7E00; }},
    {"layer 0, head 1, values: synthesis has", [](Fixture* f) { ValuesOf(f).synthesis.clear(); }},
    {"layer 0, head 1, values: synthesis holds -inf", [](Fixture* f) { ValuesOf(f).synthesis[0] = 0xFC00; }},
    {"layer 1, head 0, keys: centroids has", [](Fixture* f) { KeysOf(f).centroids.pop_back(); }},
    {"codebooks of 128 entries", [](Fixture* f) { f->calibration.entries = 128; }},
    {"layer 0, head 0, keys: centroids has", [](Fixture* f) { f->calibration.entries = kMirroredEntries; }},
    {"layer 1, head 0, keys: centroid_scale has 0", [](Fixture* f) { KeysOf(f).centroid_scale.clear(); }},
    {"layer 1, head 0, keys: centroid_scale has 33", [](Fixture* f) { KeysOf(f).centroid_scale.resize(33); }},
    {"layer 1, head 0, keys: centroid_scale holds", [](Fixture* f) { KeysOf(f).centroid_scale[0] = std::nanf(""); }},
    {"layer 1, head 0, keys: group_ends: a group from 0 to 0", [](Fixture* f) { KeysOf(f).group_ends[0] = 0; }},
    {"layer 1, head 0, keys: group_ends: a group from 0 to 17",
     [](Fixture* f) {
       KeysOf(f).group_ends = {17, 18};
     }},
    {"keys: group_ends do not cover", [](Fixture* f) { KeysOf(f).group_ends.pop_back(); }},
    {"head_dim 40", [](Fixture* f) { f->model.head_dim = 40; }},
    {"layers without a rope", [](Fixture* f) { f->model.rope_of_layer.pop_back(); }},
    {"rope does not exist", [](Fixture* f) { f->model.rope_of_layer[0] = 2; }},
    {"turns more than the 32", [](Fixture* f) { f->model.ropes[0].frequencies.resize(17); }},
};

TEST(CoupledCreate, RefusesWhatDoesNotFitTheModel) {
  for (const Damage& damage : kDamages) {
    Fixture fixture(kSmall);
    damage.damage(&fixture);
    const auto codec = fixture.Create(simd::Isa::kScalar);
    EXPECT_EQ(codec.status().code(), absl::StatusCode::kInvalidArgument) << damage.what;
    EXPECT_THAT(std::string(codec.status().message()), testing::HasSubstr(damage.what));
  }
  Fixture mirrored(kSmallMirrored);
  ValuesOf(&mirrored).centroids.back() = -128;
  EXPECT_THAT(std::string(mirrored.Create(simd::Isa::kScalar).status().message()),
              testing::HasSubstr("layer 0, head 1, values: centroids of a mirrored codebook hold -128"));
  const auto missing = FindCodec("klt2")->create(Fixture(kSmall).model, nullptr, simd::Isa::kScalar);
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CoupledCreate, TablesOfASmallModelAreSmall) {
  Fixture fixture(kSmall);
  fixture.model.num_layers = 30, fixture.model.num_kv_heads = 3, fixture.model.head_dim = 64;
  fixture.model.max_pages = 8192 / kPageTokens;
  fixture.model.rope_of_layer.assign(30, 0);
  fixture.model.ropes = {{false, std::vector<double>(32, 0.5)}};
  const HeadCode code = IdentityCode(64, 4, fixture.random);
  fixture.calibration.layers.assign(30, {{code, code, code}, {code, code, code}});
  const auto codec = fixture.Create(simd::Isa::kScalar);
  ASSERT_TRUE(codec.ok()) << codec.status();
  EXPECT_LE((*codec)->table_bytes(), 7'500'000);
  EXPECT_GE((*codec)->table_bytes(), 30 * 3 * (2 * 64 * 256 + 4 * 64 * 64 * 2));
  HeadCode mirrored = RandomCode(64, 64, kMirroredEntries, fixture.random);
  mirrored.group_ends = code.group_ends;
  fixture.calibration.entries = kMirroredEntries;
  fixture.calibration.layers.assign(30, {{mirrored, mirrored, mirrored}, {mirrored, mirrored, mirrored}});
  const auto smaller = fixture.Create(simd::Isa::kScalar);
  ASSERT_TRUE(smaller.ok()) << smaller.status();
  EXPECT_EQ((*smaller)->table_bytes(), (*codec)->table_bytes() - 30 * 3 * 2 * 64 * (256 - 64));
}

TEST(CoupledCreate, EveryNameTakesItsOwnCalibration) {
  for (const std::string name : {"cq2", "cq1", "klt3", "klt2", "klt1"}) {
    Fixture fixture(kSmall);
    fixture.calibration.codec = name;
    ASSERT_NE(FindCodec(name), nullptr) << name;
    EXPECT_TRUE(FindCodec(name)->calibrated);
    EXPECT_TRUE(FindCodec(name)->create(fixture.model, &fixture.calibration, simd::Isa::kScalar).ok()) << name;
  }
}

}  // namespace
}  // namespace nibble::kv
