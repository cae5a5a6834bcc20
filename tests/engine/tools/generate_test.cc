#include "engine/tools/generate.h"

#include <algorithm>

#include "engine/tools/solo_sequence.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

GenerateOptions Greedy(int64_t max_tokens) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling.temperature = 0.0f;
  return options;
}

void Silent(const std::string&) {}

// The most likely token after all of `ids`, each time from nothing.
int32_t MostLikelyNext(const OpenedModel& model, const std::vector<int32_t>& ids) {
  const auto engine = *EngineWithPages(*OptionsFor({}), model, kv::PagesFor(static_cast<int64_t>(ids.size())));
  SoloSequence sequence(*engine, static_cast<int64_t>(ids.size()));
  std::vector<float> logits(static_cast<size_t>(engine->vocab_size()));
  EXPECT_TRUE(sequence.AppendForLogits(ids, 1, logits.data()));
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(Generate, GreedyEqualsTheMostLikelyTokenStepByStep) {
  const OpenedModel model = OpenTinyModel("tiny-qwen3-f16");
  std::vector<int32_t> ids = SomeIds(40);
  std::string streamed;
  const auto generated = Generate(model, ids, Greedy(12), [&](const std::string& piece) { streamed += piece; });
  ASSERT_THAT(generated, IsOk());
  EXPECT_EQ(streamed, generated->text);
  EXPECT_EQ(generated->prompt_ids, ids);
  ASSERT_FALSE(generated->ids.empty());
  for (const int32_t id : generated->ids) {
    EXPECT_EQ(id, MostLikelyNext(model, ids));
    ids.push_back(id);
  }
  if (generated->finish_reason == "stop") {
    EXPECT_TRUE(model.tokenizer->IsEndOfGeneration(MostLikelyNext(model, ids)));
  } else {
    EXPECT_EQ(generated->ids.size(), 12u);
  }
}

TEST(Generate, TheSeedDecidesTheDraws) {
  const OpenedModel model = OpenTinyModel("tiny-qwen3-f16");
  GenerateOptions options = Greedy(24);
  options.sampling.temperature = 1.5f;
  const auto first = Generate(model, SomeIds(8), options, Silent), again = Generate(model, SomeIds(8), options, Silent);
  options.sampling.seed = 1;
  const auto other = Generate(model, SomeIds(8), options, Silent);
  ASSERT_THAT(first, IsOk());
  EXPECT_EQ(first->ids, again->ids);
  EXPECT_NE(first->ids, other->ids);
}

TEST(Generate, StopsAtTheModelsContext) {
  const OpenedModel model = OpenTinyModel("tiny-mistral-f16");
  GenerateOptions options = Greedy(100);
  options.sampling.logit_bias = {{2, -1000.0f}};  // never ends by itself
  for (const int32_t id : model.tokenizer->end_of_generation_ids())
    options.sampling.logit_bias.emplace_back(id, -1000.0f);
  const auto generated = Generate(model, SomeIds(505), options, Silent);
  ASSERT_THAT(generated, IsOk());
  EXPECT_EQ(generated->ids.size(), 7u);
  EXPECT_EQ(generated->finish_reason, "length");
}

TEST(Generate, RefusesAPromptThatDoesNotFit) {
  const OpenedModel model = OpenTinyModel("tiny-mistral-f16");
  EXPECT_THAT(Generate(model, {}, Greedy(1), Silent), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty")));
  EXPECT_THAT(Generate(model, SomeIds(512), Greedy(1), Silent),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("context is 512")));
}

}  // namespace
}  // namespace nibble::engine
