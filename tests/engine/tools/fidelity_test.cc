#include "engine/tools/fidelity.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/tools/chunks.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(Sha256, GivesTheKnownAnswers) {  // FIPS 180-4, examples
  Sha256 sha256;
  EXPECT_EQ(sha256.Hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  sha256.Add(BytesOf("a"));
  sha256.Add(BytesOf("bc"));
  EXPECT_EQ(sha256.Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256.Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

std::vector<double> Softmax(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  std::vector<double> p;
  for (const float logit : logits) total += p.emplace_back(std::exp(logit - max));
  for (double& value : p) value /= total;
  return p;
}

TEST(Fidelity, EqualsTheDefinitions) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3), noise(0, 0.5);
  Fidelity fidelity(333);
  double nll = 0, kl = 0, same = 0;
  for (int position = 0; position < 50; ++position) {
    std::vector<float> reference(333), logits(333);
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = (reference[i] = normal(random)) + noise(random);
    const int32_t target = position * 6;
    fidelity.Add(logits, reference, target);
    const std::vector<double> p = Softmax(reference), q = Softmax(logits);
    nll -= std::log(q[static_cast<size_t>(target)]);
    for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
    same += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
  }
  EXPECT_EQ(fidelity.tokens(), 50);
  EXPECT_NEAR(fidelity.perplexity(), std::exp(nll / 50), 1e-5 * fidelity.perplexity());
  EXPECT_NEAR(fidelity.kl_divergence(), kl / 50, 1e-6);
  EXPECT_DOUBLE_EQ(fidelity.top1(), same / 50);
  EXPECT_GT(fidelity.top1(), 0.3);
  EXPECT_LT(fidelity.top1(), 1.0);
}

TEST(Fidelity, TheReferenceIsAtNoDistanceFromItself) {
  const std::vector<float> logits = {1, 2, 3};
  Fidelity fidelity(3);
  fidelity.Add(logits, logits, 0);
  EXPECT_EQ(fidelity.kl_divergence(), 0.0);
  EXPECT_EQ(fidelity.top1(), 1.0);
}

TEST(CutChunks, DropsTheRestAndStartsEachWithBosWhereTheModelDoes) {
  const std::vector<int32_t> ids = {10, 11, 12, 13, 14, 15, 16, 17};
  TokenizerData data;
  data.bos = 1;
  auto chunks = CutChunks(ids, data, {3, 8});
  ASSERT_THAT(chunks, IsOk());
  EXPECT_THAT(*chunks, ElementsAre(ElementsAre(10, 11, 12), ElementsAre(13, 14, 15)));
  data.add_bos = true;
  chunks = CutChunks(ids, data, {4, 1});
  ASSERT_THAT(chunks, IsOk());
  EXPECT_THAT(*chunks, ElementsAre(ElementsAre(1, 11, 12, 13)));
}

TEST(CutChunks, RefusesATextShorterThanAChunk) {
  EXPECT_THAT(CutChunks(std::vector<int32_t>{1, 2, 3}, {}, {4, 8}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 tokens")));
}

}  // namespace
}  // namespace nibble::engine
