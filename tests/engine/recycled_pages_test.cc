// Row 39 of the robustness table, through a whole model: what a page, a raw slot or the working memory held before
// shows in nothing.
#include <bit>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/cpu_engine.h"
#include "engine/models/kv_codec_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/random_calibration.h"

namespace nibble::engine {
namespace {

constexpr int64_t kPages = 9;
constexpr int64_t kStepTokens = 100;

class RecycledPages : public testing::TestWithParam<std::string> {
 protected:
  RecycledPages() : file_(*OpenModelFile(NIBBLE_TESTS_DIR "/golden/logits/tiny-qwen3-f16.gguf")) {}

  std::unique_ptr<CpuEngine> NewEngine() const {
    EngineOptions options;
    options.kv_codec = GetParam();
    options.calibration = RandomCalibration(GetParam(), CodecModelOf(file_.config));
    options.kv_pages = kPages;
    options.kv_raw_slots = kPages;
    options.max_sequences = 1;
    options.step_tokens = kStepTokens;
    auto engine = CreateEngine(options, file_);
    EXPECT_THAT(engine, IsOk());
    return *std::move(engine);
  }

  std::vector<int32_t> Prompt(int64_t tokens, uint32_t seed) const {
    std::mt19937 random(seed);
    std::vector<int32_t> prompt(tokens);
    for (int32_t& id : prompt) id = static_cast<int32_t>(random() % file_.config.vocab_size);
    return prompt;
  }

  // Runs the tokens from `first` on, in steps as long as may be, in pages from `page` down, each with a raw slot; bits
  // of all logits.
  std::vector<uint32_t> Run(CpuEngine& engine, const std::vector<int32_t>& tokens, kv::PageId page,
                            int64_t first = 0) const {
    std::vector<kv::PageId> pages(kv::PagesFor(static_cast<int64_t>(tokens.size())));
    std::iota(pages.rbegin(), pages.rend(), page - static_cast<kv::PageId>(pages.size()) + 1);
    std::vector<kv::RawSlot> slots(pages.size());
    std::iota(slots.rbegin(), slots.rend(), 0);
    std::vector<uint32_t> bits;
    for (int64_t at = first; at < static_cast<int64_t>(tokens.size()); at += kStepTokens) {
      SequenceStep step;
      step.tokens = absl::MakeConstSpan(tokens).subspan(at, kStepTokens);
      step.position = at;
      step.pages = pages;
      if (!engine.cache_shape().in_place()) step.raw_slots = slots;
      step.logit_rows = static_cast<int64_t>(step.tokens.size());
      std::vector<float> logits(step.logit_rows * engine.vocab_size());
      step.logits_out = logits.data();
      const StepPlan plan = {{step}};
      engine.Launch(plan);
      EXPECT_FALSE(engine.Await().sequences[0].faulted);
      for (const float logit : logits) bits.push_back(std::bit_cast<uint32_t>(logit));
    }
    return bits;
  }

  const ModelFile file_;
};

TEST_P(RecycledPages, Row39_WhatWasThereBeforeShowsInNoLogit) {
  const std::vector<int32_t> prompt = Prompt(150, 1);
  const std::vector<uint32_t> want = Run(*NewEngine(), prompt, 4);
  const std::unique_ptr<CpuEngine> used = NewEngine();
  Run(*used, Prompt(kPages * kv::kPageTokens, 2), kPages - 1);
  EXPECT_EQ(Run(*used, prompt, 4), want);
  EXPECT_EQ(Run(*used, prompt, 7), want);
}

// Pages that are read without having been written tell what they held: the comparison above would have seen it.
TEST_P(RecycledPages, Row39_ReadingWhatWasNotWrittenWouldShow) {
  const std::vector<int32_t> prompt = Prompt(150, 1);
  const std::unique_ptr<CpuEngine> fresh = NewEngine(), used = NewEngine();
  Run(*used, Prompt(kPages * kv::kPageTokens, 2), kPages - 1);
  EXPECT_NE(Run(*used, prompt, 4, /*first=*/96), Run(*fresh, prompt, 4, /*first=*/96));
}

INSTANTIATE_TEST_SUITE_P(Codecs, RecycledPages,
                         testing::Values("f16", "f32", "int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2",
                                         "klt1"));

}  // namespace
}  // namespace nibble::engine
