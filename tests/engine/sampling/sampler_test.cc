#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>

#include "engine/grammar/compiler.h"
#include "engine/sampling/philox.h"
#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  std::vector<float> logits;
  SamplingParams params;
  std::vector<int32_t> prompt, generated, banned;
  uint64_t seed = 0;
  grammar::Matcher* matcher = nullptr;
  std::vector<int32_t> terminators = {};

  SampleRequest Request() const { return {&params, prompt, generated, banned, seed, matcher, terminators}; }
};

int32_t Draw(Case c, simd::Isa isa = simd::SupportedIsas().back()) {
  Sampler sampler(isa, static_cast<int64_t>(c.logits.size()));
  const std::vector<float> before = c.logits;
  const int32_t token = sampler.Sample(absl::MakeSpan(c.logits), c.Request());
  EXPECT_EQ(c.logits, before) << "the logits were not restored";
  return token;
}

// ---- the naive twin: sorts everything, computes in double
// ------------------------------------------------------------

struct Ranked {
  double logit;
  int32_t id;
  double weight;
};

std::vector<Ranked> RankedAfterPenalties(const Case& c) {
  std::vector<Ranked> all;
  for (size_t i = 0; i < c.logits.size(); ++i) {
    const int32_t id = static_cast<int32_t>(i);
    float logit = c.logits[i];
    const auto in_prompt = std::count(c.prompt.begin(), c.prompt.end(), id);
    const auto count = std::count(c.generated.begin(), c.generated.end(), id);
    if (in_prompt + count > 0) {
      logit = logit > 0 ? logit / c.params.repetition_penalty : logit * c.params.repetition_penalty;
    }
    if (count > 0) logit -= c.params.frequency_penalty * static_cast<float>(count) + c.params.presence_penalty;
    for (const auto& [biased, bias] : c.params.logit_bias) logit += biased == id ? bias : 0.0f;
    if (std::count(c.banned.begin(), c.banned.end(), id) > 0) logit = -kInfinity;
    all.push_back({logit, id, 0.0});
  }
  std::sort(all.begin(), all.end(),
            [](const Ranked& a, const Ranked& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); });
  for (Ranked& r : all) r.weight = std::exp((r.logit - all[0].logit) / c.params.temperature);
  return all;
}

double Mass(const std::vector<Ranked>& ranked) {
  return std::accumulate(ranked.begin(), ranked.end(), 0.0, [](double sum, const Ranked& r) { return sum + r.weight; });
}

struct TwinDraw {
  int32_t id;
  double margin;  // how far the nearest decision was from falling the other way, as a share of the mass
};

TwinDraw NaiveDraw(const Case& c) {
  std::vector<Ranked> left = RankedAfterPenalties(c);
  if (c.params.temperature < 1e-5f) return {left[0].id, 1.0};
  double margin = 1.0;
  std::vector<Ranked> kept;
  for (const Ranked& r : left) {
    if (r.weight >= c.params.min_p) kept.push_back(r);
    // The most likely one weighs exactly 1.
    if (c.params.min_p > 0 && r.weight != c.params.min_p)
      margin = std::min(margin, std::abs(r.weight - c.params.min_p));
  }
  if (c.params.top_k > 0) kept.resize(std::min(kept.size(), static_cast<size_t>(c.params.top_k)));
  if (c.params.top_p < 1.0f) {
    const double total = Mass(kept), target = total * c.params.top_p;
    double sum = 0;
    size_t size = 0;
    while (size < kept.size() && sum < target) {
      sum += kept[size++].weight;
      margin = std::min(margin, std::abs(sum - target) / total);
    }
    kept.resize(size);
  }
  std::sort(kept.begin(), kept.end(), [](const Ranked& a, const Ranked& b) { return a.id < b.id; });
  const double total = Mass(kept), target = total * UniformDraw(c.seed, c.generated.size());
  double sum = 0;
  for (const Ranked& r : kept) {
    sum += r.weight;
    margin = std::min(margin, std::abs(sum - target) / total);
    if (sum > target) return {r.id, margin};
  }
  return {kept.back().id, 0.0};
}

// ---- random cases
// ----------------------------------------------------------------------------------------------------

float Pick(std::mt19937& random, std::initializer_list<float> values) {
  return *(values.begin() + std::uniform_int_distribution<size_t>(0, values.size() - 1)(random));
}

std::vector<int32_t> SomeIds(std::mt19937& random, size_t most, size_t vocab) {
  std::vector<int32_t> ids(std::uniform_int_distribution<size_t>(0, most)(random));
  for (int32_t& id : ids) id = std::uniform_int_distribution<int32_t>(0, static_cast<int32_t>(vocab) - 1)(random);
  return ids;
}

Case RandomCase(uint32_t seed) {
  std::mt19937 random(seed);
  Case c;
  c.logits.resize(static_cast<size_t>(Pick(random, {1, 2, 7, 16, 100, 1024, 1025, 5000})));
  std::normal_distribution<float> normal(Pick(random, {-20, 0, 30}), Pick(random, {0.0f, 0.5f, 3.0f, 12.0f}));
  const bool ties = Pick(random, {0, 1}) == 1;
  for (float& logit : c.logits) {
    logit = normal(random);
    if (ties) logit = std::round(logit);
  }
  c.params.temperature = Pick(random, {0.0f, 0.1f, 0.7f, 1.0f, 1.0f, 2.0f});
  c.params.top_p = Pick(random, {0.001f, 0.3f, 0.9f, 0.999f, 1.0f, 1.0f});
  c.params.top_k = static_cast<int32_t>(Pick(random, {0, 0, 1, 2, 40, 4000, 100000}));
  c.params.min_p = Pick(random, {0.0f, 0.0f, 0.0f, 0.05f, 0.5f, 1.0f});
  c.params.repetition_penalty = Pick(random, {1.0f, 1.0f, 0.5f, 1.3f, 2.0f});
  c.params.presence_penalty = Pick(random, {0.0f, 0.0f, -2.0f, 1.5f});
  c.params.frequency_penalty = Pick(random, {0.0f, 0.0f, -1.0f, 2.0f});
  for (const int32_t id : SomeIds(random, 3, c.logits.size()))
    c.params.logit_bias.emplace_back(id, Pick(random, {-100, 5}));
  c.prompt = SomeIds(random, 20, c.logits.size());
  c.generated = SomeIds(random, 20, c.logits.size());
  if (c.logits.size() > 8) c.banned = SomeIds(random, 3, c.logits.size());
  c.seed = random();
  return c;
}

TEST(Sampler, EqualsTheNaiveTwin) {
  int close = 0;
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    const Case c = RandomCase(seed);
    const TwinDraw twin = NaiveDraw(c);
    if (twin.margin < 1e-6) {
      ++close;
      continue;
    }
    ASSERT_EQ(Draw(c), twin.id) << "case " << seed;
  }
  EXPECT_LT(close, 3000 / 10);
}

TEST(Sampler, DrawsTheSameOnEveryTarget) {
  for (uint32_t seed = 0; seed < 600; ++seed) {
    const Case c = RandomCase(seed);
    const int32_t scalar = Draw(c, simd::Isa::kScalar);
    for (const simd::Isa isa : simd::SupportedIsas()) ASSERT_EQ(Draw(c, isa), scalar) << "case " << seed;
  }
}

// Ten digits, then numbers of four digits.
std::shared_ptr<grammar::Vocabulary> NumberVocabulary(size_t size) {
  std::vector<std::string> tokens;
  for (size_t id = 0; id < size; ++id) {
    tokens.push_back(id < 10 ? std::to_string(id) : std::to_string(1000 + id));
  }
  return std::make_shared<grammar::Vocabulary>(grammar::TokenTrie(tokens, static_cast<int64_t>(size)), size_t{1} << 20);
}

TEST(Sampler, AGrammarIsABanOfAllThatItDoesNotAllow) {
  int drawn = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    Case c = RandomCase(seed);
    if (c.logits.size() < 16) continue;
    std::mt19937 random(seed);
    const auto vocabulary = NumberVocabulary(c.logits.size());
    std::vector<std::string> choices;
    for (size_t id = 0; id < c.logits.size(); ++id) {
      if (random() % 4 == 0) choices.emplace_back(vocabulary->trie.TokenBytes(static_cast<int32_t>(id)));
    }
    const auto compiled = grammar::CompileConstraint({grammar::Notation::kChoice, "", choices}, vocabulary);
    ASSERT_TRUE(compiled.ok()) << compiled.status();
    grammar::Matcher matcher(*compiled);
    c.terminators = {12};
    std::vector<uint64_t> mask(vocabulary->trie.mask_words());
    ASSERT_TRUE(matcher.FillMask(c.terminators, absl::MakeSpan(mask)));
    Case banned = c;
    for (int32_t id = 0; id < static_cast<int32_t>(c.logits.size()); ++id) {
      if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) == 0) banned.banned.push_back(id);
    }
    c.matcher = &matcher;
    ASSERT_EQ(Draw(c), Draw(banned)) << "case " << seed;
    ++drawn;
  }
  EXPECT_GT(drawn, 200);
}

TEST(Sampler, AGrammarWhoseTokensAreAllBannedLeavesNone) {
  const auto vocabulary = NumberVocabulary(100);
  const auto compiled = grammar::CompileConstraint({grammar::Notation::kRegex, "[3-4]", {}}, vocabulary);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  grammar::Matcher matcher(*compiled);
  Case c;
  c.logits.assign(100, 0.0f);
  c.matcher = &matcher;
  c.banned = {3};
  EXPECT_EQ(Draw(c), 4);
  c.banned = {3, 4};
  EXPECT_EQ(Draw(c), -1);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  Case c;
  c.logits = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -3.0f, 1.5f, 0.0f};
  c.params.temperature = 0.8f;
  const std::vector<Ranked> ranked = RankedAfterPenalties(c);
  std::vector<int> counts(c.logits.size(), 0);
  const int draws = 20000;
  for (c.seed = 0; c.seed < draws; ++c.seed) ++counts[static_cast<size_t>(Draw(c))];
  double chi_square = 0;
  for (const Ranked& r : ranked) {
    const double expected = draws * r.weight / Mass(ranked);
    const double difference = counts[static_cast<size_t>(r.id)] - expected;
    chi_square += difference * difference / expected;
  }
  EXPECT_LT(chi_square, 24.3);  // 7 degrees of freedom, p = 0.001
}

TEST(Sampler, TheDrawDependsOnTheNumberOfGeneratedTokensOnly) {
  Case c;
  c.logits.assign(1000, 0.0f);
  c.generated = {1, 2, 3};
  const int32_t first = Draw(c);
  c.generated = {7, 8, 9};
  EXPECT_EQ(Draw(c), first);
  c.generated = {7, 8, 9, 10};
  EXPECT_NE(Draw(c), first);
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  Case c;
  c.logits.assign(100, 1.0f);
  c.logits[70] = c.logits[33] = 2.0f;
  c.params.temperature = 0.0f;
  EXPECT_EQ(Draw(c), 33);
  c.params.temperature = 0.99e-5f;
  EXPECT_EQ(Draw(c), 33);
}

TEST(Sampler, OneCandidateLeavesNothingToChance) {
  Case c;
  c.logits.assign(300, 1.0f);  // all equal: the lowest id ranks first
  for (c.seed = 0; c.seed < 20; ++c.seed) {
    Case k = c, p = c;
    k.params.top_k = 1;
    p.params.top_p = 1e-6f;
    EXPECT_EQ(Draw(k), 0);
    EXPECT_EQ(Draw(p), 0);
  }
}

TEST(Sampler, EqualLogitsAreCutByIdAtTheBoundary) {
  Case c;
  c.logits.assign(2048, 0.0f);
  c.params.top_p = 0.25f;
  int32_t highest = 0;
  for (c.seed = 0; c.seed < 3000; ++c.seed) highest = std::max(highest, Draw(c));
  EXPECT_LT(highest, 512);
  EXPECT_GT(highest, 500);
}

TEST(Sampler, MaskedIdsAreNeverDrawn) {
  Case c;
  c.logits = {9.0f, 8.0f, -1.0f, 7.0f};
  c.params.logit_bias = {{0, -kInfinity}};
  c.banned = {1, 3};
  for (const float temperature : {0.0f, 1.0f, 100.0f}) {
    c.params.temperature = temperature;
    EXPECT_EQ(Draw(c), 2);
  }
}

TEST(Sampler, EverythingMaskedGivesIdZero) {
  Case c;
  c.logits = {1.0f, 2.0f};
  c.banned = {0, 1};
  EXPECT_EQ(Draw(c), 0);
}

TEST(Sampler, ExtremePenaltiesStayInRange) {
  Case c;
  c.logits = {1e37f, -1e37f, 0.0f};
  c.prompt = {0, 1, 2};
  c.generated.assign(5000, 0);
  c.params.repetition_penalty = 2.0f;
  c.params.frequency_penalty = 2.0f;
  EXPECT_EQ(Draw(c), 0);
  c.logits = {1.0f, -1.0f, 0.0f};
  c.params.temperature = 0.0f;
  EXPECT_EQ(Draw(c), 2);
}

TEST(Sampler, TheSmallestRepetitionPenaltyLiftsWithoutOverflow) {
  Case c;
  c.logits.assign(40, 1.0f);
  c.logits[0] = 9.0f;
  c.logits[4] = -5.0f;
  c.prompt = {3, 4, 17};  // 3 and 17 end at the largest float
  c.banned = {0, 5};
  c.params.logit_bias = {{3, 100.0f}, {17, 100.0f}};
  for (const float penalty : {1e-38f, std::numeric_limits<float>::denorm_min()}) {
    c.params.repetition_penalty = penalty;
    for (const int filter : {0, 1, 2, 3}) {
      c.params.top_p = filter == 1 ? 0.9f : 1.0f;
      c.params.top_k = filter == 2 ? 2 : 0;
      c.params.min_p = filter == 3 ? 0.1f : 0.0f;
      std::vector<int> counts(c.logits.size());
      for (c.seed = 0; c.seed < 64; ++c.seed) ++counts[static_cast<size_t>(Draw(c))];
      EXPECT_GT(counts[3], 10);
      EXPECT_EQ(counts[3] + counts[17], 64);
    }
  }
}

TEST(Logprobs, AreTheLogSoftmaxOfTheRawLogits) {
  for (const simd::Isa isa : simd::SupportedIsas()) {
    for (uint32_t seed = 0; seed < 60; ++seed) {
      Case c = RandomCase(seed);
      c.params = {};
      c.banned.clear();
      const std::vector<Ranked> ranked = RankedAfterPenalties(c);
      const int32_t top = static_cast<int32_t>(std::min<size_t>(20, c.logits.size()));
      Sampler sampler(isa, static_cast<int64_t>(c.logits.size()));
      const Logprobs result = sampler.LogprobsOf(c.logits, ranked.back().id, top);
      const double log_total = ranked[0].logit + std::log(Mass(ranked));
      EXPECT_NEAR(result.logprob, ranked.back().logit - log_total, 1e-5 * std::max(1.0, -ranked.back().logit));
      ASSERT_EQ(result.top.size(), static_cast<size_t>(top));
      for (size_t i = 0; i < result.top.size(); ++i) {
        EXPECT_EQ(result.top[i].id, ranked[i].id) << "case " << seed << " rank " << i;
        EXPECT_NEAR(result.top[i].logprob, ranked[i].logit - log_total,
                    1e-5 * std::max(1.0, std::abs(ranked[i].logit)));
      }
    }
  }
}

TEST(Logprobs, AreTheSameBitsOnEveryTarget) {
  const Case c = RandomCase(6);
  const Logprobs scalar = Sampler(simd::Isa::kScalar, static_cast<int64_t>(c.logits.size())).LogprobsOf(c.logits, 0, 1);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    EXPECT_EQ(Sampler(isa, static_cast<int64_t>(c.logits.size())).LogprobsOf(c.logits, 0, 1).logprob, scalar.logprob);
  }
}

}  // namespace
}  // namespace nibble::engine
