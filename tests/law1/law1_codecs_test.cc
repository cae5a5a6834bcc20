// Law 1 for every codec of the KV cache: prefix hits, chunks, preemption, a full pool of pages, a full pool of raw
// slots, mixed batches, threads and targets against each request alone in a cold cache.
#include <string>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/law1_fixture.h"

namespace nibble {
namespace {

constexpr int kMaxTokens = 20;
constexpr int kCompared = 12;

struct Setting {
  const char* model;
  const char* codec;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.codec << " in " << setting.model; }

class Law1Codecs : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    auto file = engine::OpenModelFile(std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + GetParam().model);
    ASSERT_THAT(file, IsOk());
    file_ = *std::move(file);
    modes_.kv = GetParam().codec;
    prompts_ = MakePrompts(kCompared - 2, 120, 200, file_.config.vocab_size);
    // Long ones reach well into the second segment of attention.
    for (const auto& longer : MakePrompts(2, 400, 470, file_.config.vocab_size)) prompts_.push_back(longer);
    company_ = prompts_;
    for (const auto& filler : MakePrompts(20, 30, 60, file_.config.vocab_size)) company_.push_back(filler);
    Company alone;
    alone.isa = simd::SupportedIsas().back();
    alone_ = Answer(file_, modes_, alone, prompts_, kMaxTokens, ledger_).tokens;
    ASSERT_EQ(ledger_.entries(), kCompared * kMaxTokens);
  }

  RunResult ExpectSameBits(const Company& company) {
    const int64_t before = ledger_.confirmations() + ledger_.contradictions();
    RunResult result = Answer(file_, modes_, company, company_, kMaxTokens, ledger_);
    EXPECT_GE(ledger_.confirmations() + ledger_.contradictions() - before, kCompared * kMaxTokens)
        << "nothing was compared";
    EXPECT_EQ(ledger_.contradictions(), 0)
        << simd::Name(company.isa) << ", " << company.threads << " threads, steps of " << company.step_tokens;
    for (size_t i = 0; i < alone_.size(); ++i) EXPECT_EQ(result.tokens[i], alone_[i]) << "request " << i;
    return result;
  }

  Modes modes_;
  engine::ModelFile file_;
  std::vector<std::vector<int32_t>> prompts_, company_, alone_;
  LogitsLedger ledger_;
};

constexpr Company kTogether = {simd::Isa::kScalar, 1, 512, 32, 4096, 0, /*together=*/true};

TEST_P(Law1Codecs, TargetsAndThreadsDoNotShow) {
  for (simd::Isa isa : simd::SupportedIsas()) {
    Company company = kTogether;
    company.isa = isa;
    company.threads = isa == simd::Isa::kScalar ? 1 : 2;
    EXPECT_EQ(ExpectSameBits(company).largest_batch, 32);
  }
}

TEST_P(Law1Codecs, ChunksDoNotShow) {
  for (const int64_t step_tokens : {33, 64, 100, 200, 449}) {
    Company company = kTogether;
    company.isa = simd::SupportedIsas().back();
    company.step_tokens = step_tokens;
    ExpectSameBits(company);
  }
}

TEST_P(Law1Codecs, PrefixHitsDoNotShow) {
  Company company = kTogether;
  company.isa = simd::SupportedIsas().back();
  company.max_sequences = 2;
  EXPECT_GT(ExpectSameBits(company).counters.prefix_hits_tokens, 100);
}

TEST_P(Law1Codecs, PreemptionDoesNotShow) {
  Company company = kTogether;
  company.isa = simd::SupportedIsas().back();
  company.step_tokens = 449;
  company.pages = 50;
  const RunResult result = ExpectSameBits(company);
  EXPECT_GT(result.counters.preemptions, 0);
  EXPECT_GT(result.counters.recomputed_tokens, 0);
}

TEST_P(Law1Codecs, ScarceRawSlotsDoNotShow) {
  for (const int64_t raw_slots : {5, 8, 19}) {
    Company company = kTogether;
    company.isa = simd::SupportedIsas().back();
    company.raw_slots = raw_slots;
    const RunResult result = ExpectSameBits(company);
    EXPECT_LE(result.largest_batch, raw_slots / 2);
    EXPECT_GE(result.largest_batch, 1);
  }
}

constexpr const char* kModels[] = {"tiny-qwen3-f16.gguf", "tiny-gemma3-q8_0.gguf"};

std::vector<Setting> AllSettings() {
  std::vector<Setting> all;
  for (const char* model : kModels) {
    for (const char* codec : {"int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2", "klt1"}) {
      all.push_back({model, codec});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Codecs, Law1Codecs, testing::ValuesIn(AllSettings()));

}  // namespace
}  // namespace nibble
