// The affine codecs against naive twins that read the same sealed bytes: scores and mixes bit for bit on every
// instruction set, for any number of rows and pages; what they lose against exact attention; groups at the edges.
#include "kvcache/codecs/affine.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/codecs/affine_codec.h"
#include "kvcache/simd/half.h"
#include "tests/kvcache/codecs/affine_twin.h"

namespace nibble::kv {
namespace {

constexpr int kRows = 13;  // more than any block of rows that the kernels take at once, and every rest
constexpr int kPages = 5;
constexpr HeadId kHead = {1, 1};

CodecModel Model(int head_dim) {
  CodecModel model;
  model.num_layers = 2;
  model.num_kv_heads = 3;
  model.head_dim = head_dim;
  return model;
}

std::unique_ptr<PageCodec> Create(const std::string& name, int head_dim, simd::Isa isa) {
  auto codec = FindCodec(name)->create(Model(head_dim), nullptr, isa);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return *std::move(codec);
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<Floats> Normal(int rows, int size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<Floats> result(rows, Floats(size));
  for (Floats& row : result) {
    for (float& a : row) a = normal(random);
  }
  return result;
}

// Halves as the raw form holds them: keys [head_dim][32], then values [32][head_dim]. Channels have scales of their
// own, keys an offset too, as models' have.
std::vector<uint16_t> NormalPage(int head_dim, std::mt19937& random) {
  std::vector<uint16_t> raw(2 * kPageTokens * head_dim);
  for (int d = 0; d < head_dim; ++d) {
    const Floats numbers = Normal(1, 2 * kPageTokens, random)[0];
    for (int t = 0; t < kPageTokens; ++t) {
      const float key = (1.0f + static_cast<float>(d % 5)) * numbers[t] + static_cast<float>(d % 7);
      raw[d * kPageTokens + t] = simd::FloatToHalf(key);
      raw[(kPageTokens + t) * head_dim + d] = simd::FloatToHalf(numbers[kPageTokens + t]);
    }
  }
  return raw;
}
float RawKey(const std::vector<uint16_t>& raw, int /*head_dim*/, int t, int d) {
  return simd::HalfToFloat(raw[d * kPageTokens + t]);
}
float RawValue(const std::vector<uint16_t>& raw, int head_dim, int t, int d) {
  return simd::HalfToFloat(raw[(kPageTokens + t) * head_dim + d]);
}

std::vector<std::byte> Seal(const PageCodec& codec, const Twin& twin, const std::vector<uint16_t>& raw) {
  std::vector<std::byte> sealed(twin.head_bytes());
  codec.Encode(kHead, 3, raw.data(), sealed.data());
  return sealed;
}

// Of one row with the tokens of one page.
Floats ScoresOf(const PageCodec& codec, const std::vector<std::byte>& sealed, const Floats& query) {
  const std::byte* page = sealed.data();
  Floats prepared(codec.query_floats()), scores(kPageTokens, std::numeric_limits<float>::quiet_NaN());
  codec.PrepareQueries(kHead, query.data(), 1, prepared.data());
  codec.Scores(kHead, {{&page, 1}, 1}, prepared.data(), 1, scores.data(), kPageTokens);
  return scores;
}

class AffineCodecs : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  AffineCodecs() : random_(static_cast<uint32_t>(dim() + name().size())), twin_(name(), dim()) {
    for (int p = 0; p < kPages; ++p) raw_.push_back(NormalPage(dim(), random_));
    // The sealed bytes' own tests say that every target has the same.
    const auto codec = Create(name(), dim(), simd::SupportedIsas().back());
    for (const auto& raw : raw_) sealed_.push_back(Seal(*codec, twin_, raw));
    for (const auto& page : sealed_) pages_.push_back(page.data());
  }

  static const std::string& name() { return std::get<0>(GetParam()); }
  static int dim() { return std::get<1>(GetParam()); }
  PageRun Run(int pages) const { return {absl::MakeConstSpan(pages_).first(pages), 3}; }

  // Calls check(codec) on every instruction set.
  template <typename Check>
  void ForEachIsa(const Check& check) {
    for (const simd::Isa isa : simd::SupportedIsas()) {
      SCOPED_TRACE(std::string(simd::Name(isa)));
      check(*Create(name(), dim(), isa));
    }
  }

  // Softmax-like weights; some tokens have none, and row 1 does not see page 2.
  std::vector<Floats> Weights() {
    std::vector<Floats> weights = Normal(kRows, kPages * kPageTokens, random_);
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kPages * kPageTokens; ++t) {
        const bool unseen = t % 11 == r || (r == 1 && t / kPageTokens == 2);
        weights[r][t] = unseen ? 0.0f : std::exp2(2.0f * weights[r][t]);
      }
    }
    return weights;
  }

  std::mt19937 random_;
  Twin twin_;
  std::vector<std::vector<uint16_t>> raw_;
  std::vector<std::vector<std::byte>> sealed_;
  std::vector<const std::byte*> pages_;
};

Floats Flat(const std::vector<Floats>& rows, int count) {
  Floats flat;
  for (int r = 0; r < count; ++r) flat.insert(flat.end(), rows[r].begin(), rows[r].end());
  return flat;
}

TEST_P(AffineCodecs, HeadsLieOneAfterAnother) {
  ForEachIsa([&](const PageCodec& codec) {
    EXPECT_EQ(codec.page_bytes(), 6 * twin_.head_bytes());
    EXPECT_EQ(codec.head_offset({0, 0}), 0);
    EXPECT_EQ(codec.head_offset({1, 2}), 5 * twin_.head_bytes());
    EXPECT_EQ(codec.table_bytes(), 0);
  });
}

TEST_P(AffineCodecs, SealedBytesAreTheSameEverywhere) {
  ForEachIsa([&](const PageCodec& codec) {
    for (int p = 0; p < kPages; ++p) EXPECT_EQ(Seal(codec, twin_, raw_[p]), sealed_[p]);
  });
}

TEST_P(AffineCodecs, ScoresHaveTheBitsOfTheTwin) {
  constexpr int kStride = kPages * kPageTokens + 7;
  const std::vector<Floats> queries = Normal(kRows, dim(), random_);
  std::vector<Floats> want(kRows, Floats(kStride, -1.0f));
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPages; ++p) {
      const Floats scores = twin_.Scores(pages_[p], queries[r]);
      std::copy(scores.begin(), scores.end(), want[r].begin() + p * kPageTokens);
    }
  }
  ForEachIsa([&](const PageCodec& codec) {
    for (int rows = 1; rows <= kRows; ++rows) {
      const int pages = 1 + rows % kPages;
      Floats prepared(rows * codec.query_floats()), scores(rows * kStride, -1.0f);
      codec.PrepareQueries(kHead, Flat(queries, rows).data(), rows, prepared.data());
      codec.Scores(kHead, Run(pages), prepared.data(), rows, scores.data(), kStride);
      for (int r = 0; r < rows; ++r) {
        Floats row = want[r];
        std::fill(row.begin() + pages * kPageTokens, row.end(), -1.0f);
        EXPECT_TRUE(SameBits({scores.begin() + r * kStride, scores.begin() + (r + 1) * kStride}, row))
            << "row " << r << " of " << rows << ", " << pages << " pages";
      }
    }
  });
}

TEST_P(AffineCodecs, MixesHaveTheBitsOfTheTwin) {
  const std::vector<Floats> weights = Weights();
  const std::vector<Floats> start = Normal(kRows, static_cast<int>(twin_.mix_floats()), random_);
  for (int pages = 1; pages <= kPages; ++pages) {
    std::vector<Floats> want = start;
    std::vector<Floats> want_mixed(kRows, Floats(dim(), 0.25f));
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < pages; ++p) {
        const auto first = weights[r].begin() + p * kPageTokens;
        twin_.Mix(pages_[p], {first, first + kPageTokens}, &want[r]);
      }
      twin_.FinishMix(want[r], &want_mixed[r]);
    }
    ForEachIsa([&](const PageCodec& codec) {
      ASSERT_EQ(codec.mix_floats(), twin_.mix_floats());
      for (int rows = pages; rows <= kRows; rows += 2) {
        Floats accumulators = Flat(start, rows), mixed(rows * dim(), 0.25f);
        codec.Mix(kHead, Run(pages), Flat(weights, rows).data(), kPages * kPageTokens, rows, accumulators.data());
        EXPECT_TRUE(SameBits(accumulators, Flat(want, rows))) << rows << " rows, " << pages << " pages";
        codec.FinishMix(kHead, accumulators.data(), rows, mixed.data());
        EXPECT_TRUE(SameBits(mixed, Flat(want_mixed, rows))) << rows << " rows, " << pages << " pages";
      }
    });
  }
}

TEST_P(AffineCodecs, APageWithoutWeightChangesNoBit) {
  ForEachIsa([&](const PageCodec& codec) {
    Floats before = Normal(1, static_cast<int>(twin_.mix_floats()), random_)[0];
    for (size_t i = 0; i < before.size(); i += 3) before[i] = -0.0f;
    const Floats weights(kPages * kPageTokens, 0.0f);
    Floats after = before;
    codec.Mix(kHead, Run(kPages), weights.data(), kPageTokens, 1, after.data());
    EXPECT_TRUE(SameBits(before, after));
  });
}

// Root mean square error over root mean square, of scores and of outputs against the raw rows, and of outputs against
// what the sealed bytes stand for: the reader's own share.
TEST_P(AffineCodecs, LosesNoMoreThanItsBitsSay) {
  const auto codec = Create(name(), dim(), simd::SupportedIsas().back());
  const std::vector<Floats> queries = Normal(kRows, dim(), random_), weights = Weights();
  constexpr int kTokens = kPages * kPageTokens;
  Floats prepared(kRows * codec->query_floats()), scores(kRows * kTokens), mixed(kRows * dim(), 0.0f);
  Floats accumulators(kRows * codec->mix_floats(), 0.0f);
  codec->PrepareQueries(kHead, Flat(queries, kRows).data(), kRows, prepared.data());
  codec->Scores(kHead, Run(kPages), prepared.data(), kRows, scores.data(), kTokens);
  codec->Mix(kHead, Run(kPages), Flat(weights, kRows).data(), kTokens, kRows, accumulators.data());
  codec->FinishMix(kHead, accumulators.data(), kRows, mixed.data());

  double score_loss = 0, score_rounding = 0, score_energy = 0, mix_loss = 0, mix_rounding = 0, mix_energy = 0;
  std::vector<std::vector<double>> exact(kRows, std::vector<double>(dim())), sealed = exact;
  for (int t = 0; t < kTokens; ++t) {
    const int p = t / kPageTokens, slot = t % kPageTokens;
    const Floats key = twin_.Key(pages_[p], slot), value = twin_.Value(pages_[p], slot);
    for (int r = 0; r < kRows; ++r) {
      double want = 0, got = 0;
      for (int d = 0; d < dim(); ++d) {
        want += double{queries[r][d]} * RawKey(raw_[p], dim(), slot, d);
        got += double{queries[r][d]} * key[d];
        exact[r][d] += double{weights[r][t]} * RawValue(raw_[p], dim(), slot, d);
        sealed[r][d] += double{weights[r][t]} * value[d];
      }
      const double score = scores[r * kTokens + t];
      score_loss += (score - want) * (score - want);
      score_rounding += (score - got) * (score - got);
      score_energy += want * want;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int d = 0; d < dim(); ++d) {
      const double output = mixed[r * dim() + d];
      mix_loss += (output - exact[r][d]) * (output - exact[r][d]);
      mix_rounding += (output - sealed[r][d]) * (output - sealed[r][d]);
      mix_energy += exact[r][d] * exact[r][d];
    }
  }
  const bool eight = twin_.bits == 8, two = twin_.bits == 2;
  EXPECT_LT(std::sqrt(score_loss / score_energy), eight ? 0.008 : two ? 0.35 : 0.07);
  EXPECT_LT(std::sqrt(mix_loss / mix_energy), eight ? 0.008 : two ? 0.5 : 0.12);
  // Of the squared error, what the reader's rounding of queries and weights adds.
  EXPECT_LT(score_rounding / score_loss, eight ? 1e-3 : 0.01);
  EXPECT_LT(mix_rounding / mix_loss, eight ? 1e-3 : 0.01);
}

INSTANTIATE_TEST_SUITE_P(Affine, AffineCodecs,
                         testing::Combine(testing::Values("int8", "int4", "kivi4", "kivi2"),
                                          testing::Values(32, 64, 96, 128, 256)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::to_string(std::get<1>(info.param));
                         });

// A page whose 32 numbers of any group are of one of these kinds must be read back as finite numbers near the raw ones.
struct Edge {
  const char* name;
  float (*number)(int i);
  float tolerance;  // of any key or value
};
constexpr Edge kEdges[] = {
    {"zeros", [](int) { return 0.0f; }, 0.0f},
    {"zeros of both signs", [](int i) { return i % 5 < 2 ? -0.0f : 0.0f; }, 0.0f},
    {"constant", [](int) { return 3.0f; }, 0.25f},
    {"negative constant", [](int) { return -0.7f; }, 0.06f},
    {"huge", [](int i) { return i % 3 == 0 ? -65504.0f : 65504.0f; }, 65504.0f},
    {"all huge", [](int) { return 65504.0f; }, 8192.0f},
    {"infinite", [](int i) { return i % 7 == 0 ? -HUGE_VALF : HUGE_VALF; }, HUGE_VALF},
    {"tiny", [](int i) { return static_cast<float>(i % 13 - 6) * 0x1p-20f; }, 0x1p-16f},
    {"denormal", [](int i) { return static_cast<float>(i % 3 - 1) * 0x1p-24f; }, 0x1p-23f},
    {"one outlier", [](int i) { return i % 32 == 5 ? 1000.0f : 0.001f; }, 700.0f},
};

TEST(AffineEdges, EveryGroupIsReadBackFinite) {
  constexpr int kDim = 64;
  for (const std::string name : {"int8", "int4", "kivi4", "kivi2"}) {
    const Twin twin(name, kDim);
    for (const Edge& edge : kEdges) {
      SCOPED_TRACE(name + ", " + edge.name);
      std::vector<uint16_t> raw(2 * kPageTokens * kDim);
      for (size_t i = 0; i < raw.size(); ++i) raw[i] = simd::FloatToHalf(edge.number(static_cast<int>(i)));
      std::vector<std::byte> first;
      for (const simd::Isa isa : simd::SupportedIsas()) {
        const auto codec = Create(name, kDim, isa);
        const std::vector<std::byte> sealed = Seal(*codec, twin, raw);
        if (first.empty()) first = sealed;
        EXPECT_EQ(sealed, first) << simd::Name(isa);
        const std::byte* page = sealed.data();
        const Floats weights(kPageTokens, 0.03125f);
        Floats accumulators(codec->mix_floats(), 0.0f), mixed(kDim, 0.0f);
        codec->Mix(kHead, {{&page, 1}, 1}, weights.data(), kPageTokens, 1, accumulators.data());
        codec->FinishMix(kHead, accumulators.data(), 1, mixed.data());
        for (float a : ScoresOf(*codec, sealed, Floats(kDim, 0.5f))) EXPECT_TRUE(std::isfinite(a));
        for (float a : mixed) EXPECT_TRUE(std::isfinite(a));
      }
      for (int t = 0; t < kPageTokens; ++t) {
        const Floats key = twin.Key(first.data(), t), value = twin.Value(first.data(), t);
        for (int d = 0; d < kDim; ++d) {
          ASSERT_TRUE(std::isfinite(key[d]) && std::isfinite(value[d]));
          EXPECT_LE(std::abs(key[d] - RawKey(raw, kDim, t, d)), edge.tolerance) << "key " << t << ", " << d;
          EXPECT_LE(std::abs(value[d] - RawValue(raw, kDim, t, d)), edge.tolerance) << "value " << t << ", " << d;
        }
      }
    }
  }
}

// All codes of one token and all operands at their limits.
TEST(AffineEdges, TheLargestSumsAreExact) {
  constexpr int kDim = kMaxHeadDim;
  for (const std::string name : {"int8", "int4", "kivi4", "kivi2"}) {
    const Twin twin(name, kDim);
    const auto most = static_cast<float>((1 << twin.bits) - 1);  // so that scales are 1
    std::vector<uint16_t> raw(2 * kPageTokens * kDim);
    for (int d = 0; d < kDim; ++d) raw[d * kPageTokens + 7] = simd::FloatToHalf(most);
    for (const float sign : {1.0f, -1.0f}) {
      const Floats query(kDim, sign);
      for (const simd::Isa isa : simd::SupportedIsas()) {
        SCOPED_TRACE(name + " on " + std::string(simd::Name(isa)));
        const auto codec = Create(name, kDim, isa);
        const std::vector<std::byte> sealed = Seal(*codec, twin, raw);
        const Floats scores = ScoresOf(*codec, sealed, query);
        EXPECT_TRUE(SameBits(scores, twin.Scores(sealed.data(), query)));
        EXPECT_NEAR(scores[7], sign * kDim * most, 1e-3f * kDim * most);
      }
    }
  }
}

// Some models have channels far larger than all others, at all tokens.
TEST(AffineEdges, AnOutlyingKeyChannelCostsTheOthersNothing) {
  constexpr int kDim = 64, kOutlier = 5;
  std::mt19937 random(6);
  const std::vector<uint16_t> even = NormalPage(kDim, random);
  std::vector<uint16_t> outlying = even;
  for (int t = 0; t < kPageTokens; ++t) {
    uint16_t& number = outlying[kOutlier * kPageTokens + t];
    number = simd::FloatToHalf(100.0f * simd::HalfToFloat(number) - 300.0f);
  }
  Floats query = Normal(1, kDim, random)[0];
  query[kOutlier] = 0.0f;
  for (const std::string name : {"int8", "int4", "kivi4", "kivi2"}) {
    SCOPED_TRACE(name);
    const auto codec = Create(name, kDim, simd::SupportedIsas().back());
    const auto scores_of = [&](const std::vector<uint16_t>& raw) {
      return ScoresOf(*codec, Seal(*codec, Twin(name, kDim), raw), query);
    };
    EXPECT_TRUE(SameBits(scores_of(outlying), scores_of(even)));
  }
}

TEST(AffineEdges, TinyQueriesAndWeightsCountAsNothing) {
  std::mt19937 random(5);
  for (const std::string name : {"int8", "int4", "kivi4", "kivi2"}) {
    for (const simd::Isa isa : simd::SupportedIsas()) {
      SCOPED_TRACE(name + " on " + std::string(simd::Name(isa)));
      const Twin twin(name, 32);
      const auto codec = Create(name, 32, isa);
      const std::vector<std::byte> sealed = Seal(*codec, twin, NormalPage(32, random));
      const std::byte* page = sealed.data();
      const Floats weights(kPageTokens, 1e-38f);
      Floats accumulators(codec->mix_floats(), 0.0f);
      codec->Mix(kHead, {{&page, 1}, 1}, weights.data(), kPageTokens, 1, accumulators.data());
      for (float a : ScoresOf(*codec, sealed, Floats(32, 1e-38f))) EXPECT_NEAR(a, 0.0f, 1e-30f);
      for (float a : accumulators) EXPECT_NEAR(a, 0.0f, 1e-30f);
    }
  }
}

TEST(AffineCreate, OtherHeadDimsAreRefused) {
  for (const std::string name : {"int8", "int4", "kivi4", "kivi2"}) {
    for (const int head_dim : {0, 16, 48, 80, 544}) {
      const auto codec = FindCodec(name)->create(Model(head_dim), nullptr, simd::Isa::kScalar);
      EXPECT_EQ(codec.status().code(), absl::StatusCode::kInvalidArgument) << name << ", " << head_dim;
    }
  }
}

TEST(AffineCreate, BitsPerNumber) {
  const std::pair<std::string, double> bits[] = {{"int8", 8.5}, {"int4", 4.5}, {"kivi4", 5.0}, {"kivi2", 3.0}};
  for (const auto& [name, want] : bits) {
    const auto codec = Create(name, 64, simd::Isa::kScalar);
    EXPECT_EQ(8.0 * static_cast<double>(codec->page_bytes()) / (2 * 3 * 2 * kPageTokens * 64), want) << name;
  }
}

}  // namespace
}  // namespace nibble::kv
