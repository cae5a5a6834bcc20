#include "engine/tools/eval.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/tools/solo_sequence.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

void NoProgress(int64_t, int64_t) {}

EvalOptions OptionsOf(int64_t context, int64_t chunks, bool second_half, std::vector<RunMode> modes) {
  EvalOptions options;
  options.chunks = {context, chunks};
  options.second_half = second_half;
  options.modes = std::move(modes);
  return options;
}

// Negative log likelihoods of one chunk from position `first` on, computed from all logits at once.
std::vector<double> BruteForce(const OpenedModel& model, const RunMode& mode, std::vector<int32_t> chunk,
                               int64_t first) {
  EngineOptions options = *OptionsFor(mode);
  const auto engine = *EngineWithPages(options, model, kv::PagesFor(static_cast<int64_t>(chunk.size())));
  SoloSequence sequence(*engine, static_cast<int64_t>(chunk.size()));
  const int64_t vocab = engine->vocab_size();
  std::vector<float> logits(chunk.size() * static_cast<size_t>(vocab));
  EXPECT_TRUE(sequence.AppendForLogits(chunk, static_cast<int64_t>(chunk.size()), logits.data()));
  std::vector<double> losses;
  for (int64_t position = first; position + 1 < static_cast<int64_t>(chunk.size()); ++position) {
    const float* row = logits.data() + position * vocab;
    double total = 0;
    for (int64_t i = 0; i < vocab; ++i) total += std::exp(static_cast<double>(row[i]));
    losses.push_back(std::log(total) - row[chunk[static_cast<size_t>(position) + 1]]);
  }
  return losses;
}

class EvalScores : public testing::TestWithParam<bool> {};

TEST_P(EvalScores, PerplexityEqualsBruteForceOverTheChunks) {
  const bool second_half = GetParam();
  const OpenedModel model = OpenTinyModel("tiny-gemma3-q8_0");  // starts each chunk with BOS
  const std::vector<int32_t> ids = SomeIds(500);
  for (const RunMode& mode : {ReferenceMode(), RunMode{"file", "a8", "f16"}}) {
    const auto rows = Evaluate(model, ids, OptionsOf(150, 8, second_half, {mode}), NoProgress);
    ASSERT_THAT(rows, IsOk());
    std::vector<double> losses;
    for (size_t first : {0, 150, 300}) {
      std::vector<int32_t> chunk(ids.begin() + static_cast<int64_t>(first),
                                 ids.begin() + static_cast<int64_t>(first) + 150);
      chunk[0] = model.tokenizer->data().bos;
      for (const double loss : BruteForce(model, mode, chunk, second_half ? 75 : 0)) losses.push_back(loss);
    }
    double sum = 0;
    for (const double loss : losses) sum += loss;
    const double perplexity = std::exp(sum / static_cast<double>(losses.size()));
    EXPECT_EQ((*rows)[0].tokens, static_cast<int64_t>(losses.size()));
    EXPECT_EQ((*rows)[0].tokens, second_half ? 3 * 74 : 3 * 149);
    EXPECT_NEAR((*rows)[0].perplexity, perplexity, 1e-5 * perplexity);
  }
}

INSTANTIATE_TEST_SUITE_P(Both, EvalScores, testing::Bool());

TEST(Eval, RowsKeepTheirOrderAndTheReferenceIsAtNoDistance) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
  const std::vector<RunMode> modes = {
      {"file", "a8", "f16"}, ReferenceMode(), {"file", "a8", "f16"}, {"w8", "a8", "f16"}};
  const auto rows = Evaluate(model, SomeIds(256), OptionsOf(128, 2, true, modes), NoProgress);
  ASSERT_THAT(rows, IsOk());
  ASSERT_EQ(rows->size(), modes.size());
  for (size_t i = 0; i < modes.size(); ++i) EXPECT_EQ((*rows)[i].mode, modes[i]);
  const EvalRow &integer = (*rows)[0], &reference = (*rows)[1];
  EXPECT_EQ(reference.kl_divergence, 0.0);
  EXPECT_EQ(reference.top1, 1.0);
  EXPECT_EQ(reference.kv_bits, 16.0);
  EXPECT_GT(integer.kl_divergence, 1e-6);
  EXPECT_LT(integer.kl_divergence, 0.05);
  EXPECT_NE(integer.logits_sha256, reference.logits_sha256);
  EXPECT_EQ(integer.logits_sha256, (*rows)[2].logits_sha256);
  EXPECT_EQ(integer.logits_sha256.size(), 64u);
}

TEST(Eval, ABaseIsTheReference) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized"), other = OpenTinyModel("tiny-llama-f32");
  EvalOptions options = OptionsOf(128, 2, true, {ReferenceMode(), {"file", "a8", "f16"}});
  const auto own = Evaluate(model, SomeIds(256), options, NoProgress);
  options.base = &model;
  const auto same = Evaluate(model, SomeIds(256), options, NoProgress);
  options.base = &other;
  const auto far = Evaluate(model, SomeIds(256), options, NoProgress);
  ASSERT_THAT(own, IsOk());
  ASSERT_THAT(same, IsOk());
  ASSERT_THAT(far, IsOk());
  for (size_t i = 0; i < own->size(); ++i) {
    EXPECT_EQ((*same)[i].kl_divergence, (*own)[i].kl_divergence);
    EXPECT_EQ((*far)[i].perplexity, (*own)[i].perplexity) << "the rows are of the model, not of the base";
  }
  EXPECT_GT((*far)[0].kl_divergence, 0.01);
  OpenedModel larger = OpenTinyModel("tiny-llama-f32");
  larger.file.config.context_length = 100;
  options.base = &larger;
  EXPECT_THAT(Evaluate(model, SomeIds(256), options, NoProgress),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the base's context is 100")));
  ++larger.file.config.vocab_size;
  options.base = &larger;
  EXPECT_THAT(Evaluate(model, SomeIds(256), options, NoProgress),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--base=")));
}

TEST(Eval, ProgressEndsWithAllSteps) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
  int64_t last_done = 0, last_all = 0;
  const auto rows =
      Evaluate(model, SomeIds(600), OptionsOf(200, 3, true, {ReferenceMode()}), [&](int64_t done, int64_t all) {
        EXPECT_EQ(done, last_done + 1);
        last_done = done;
        last_all = all;
      });
  ASSERT_THAT(rows, IsOk());
  EXPECT_EQ(last_done, 6);
  EXPECT_EQ(last_all, 6);
}

TEST(Eval, RefusesWhatCannotBeRun) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
  const auto evaluate = [&](int64_t context, int64_t chunks) {
    return Evaluate(model, SomeIds(100), OptionsOf(context, chunks, true, {ReferenceMode()}), NoProgress).status();
  };
  const auto refused = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(evaluate(101, 1), StatusIs(refused, HasSubstr("100 tokens")));
  EXPECT_THAT(evaluate(513, 1), StatusIs(refused, HasSubstr("the model's context is 512")));
  EXPECT_THAT(evaluate(3, 1), StatusIs(refused, HasSubstr("--context=3")));
  EXPECT_THAT(evaluate(32, 0), StatusIs(refused, HasSubstr("--chunks=0")));
}

TEST(Eval, JsonNamesTheBase) {
  EXPECT_EQ(nlohmann::json::parse(EvalJson("m.safetensors", "m.gguf", {}))["base"], "m.gguf");
  EXPECT_FALSE(nlohmann::json::parse(EvalJson("m.safetensors", "", {})).contains("base"));
}

TEST(Eval, JsonHasTheKeysOfTheContract) {
  EvalRow row;
  row.mode = {"w8", "a8", "f16"};
  row.kv_bits = 16;
  row.tokens = 12;
  const auto json = nlohmann::json::parse(EvalJson("m.gguf", "", {row}));
  EXPECT_EQ(json["model"], "m.gguf");
  for (const char* key :
       {"weights", "activations", "kv", "kv_bits", "ppl", "kld", "top1", "logits_sha256", "tokens", "seconds"}) {
    EXPECT_TRUE(json["rows"][0].contains(key)) << key;
  }
  EXPECT_EQ(json["rows"][0]["weights"], "w8");
  EXPECT_EQ(json["rows"][0]["tokens"], 12);
}

}  // namespace
}  // namespace nibble::engine
