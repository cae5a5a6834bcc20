// Law 1 on a real model.
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/law1_fixture.h"

namespace nibble {
namespace {

std::string ModelPath(const std::string& name) {
  const char* cache = std::getenv("NIBBLE_CACHE");
  const char* home = std::getenv("HOME");
  return (cache != nullptr ? std::string(cache) : std::string(home) + "/.cache/nibble") + "/" + name + ".gguf";
}

constexpr int kPrompts = 20;
constexpr int kMaxTokens = 12;

struct Case {
  Modes modes;
  int on_scalar;              // prompts that also run alone on the scalar target, which is slow
  int64_t shortest, longest;  // of the prompts, in tokens: answers cross the end of a page, so that sequences grow
  int64_t step_tokens;
  int64_t pages;  // enough to start all 32, too few for all to grow
};

// Each prompt by itself, some of them on the scalar target too; then all in a company of 32, on every other target,
// with two threads, chunks, prefix hits and preemption.
void ExpectLaw1(const std::string& model, const Case& c) {
  auto file = engine::OpenModelFile(ModelPath(model));
  ASSERT_THAT(file, IsOk()) << "fetch it with deploy/fetch_model.py " << model;
  LogitsLedger ledger;
  auto prompts = MakePrompts(kPrompts, c.shortest, c.longest, file->config.vocab_size);
  Company alone;
  alone.isa = simd::SupportedIsas().back();
  const auto want = Answer(*file, c.modes, alone, prompts, kMaxTokens, ledger).tokens;
  Answer(*file, c.modes, {}, {prompts.begin(), prompts.begin() + c.on_scalar}, kMaxTokens, ledger);
  EXPECT_EQ(ledger.confirmations(), c.on_scalar * kMaxTokens) << "scalar";
  for (const auto& filler : MakePrompts(32 - kPrompts, 29, 32, file->config.vocab_size)) prompts.push_back(filler);
  for (simd::Isa isa : simd::SupportedIsas()) {
    if (isa == simd::Isa::kScalar) continue;
    const Company company = {isa, 2, c.step_tokens, /*max_sequences=*/32, c.pages, /*raw_slots=*/0, /*together=*/true};
    const RunResult result = Answer(*file, c.modes, company, prompts, kMaxTokens, ledger);
    EXPECT_EQ(ledger.contradictions(), 0) << simd::Name(isa);
    EXPECT_EQ(result.largest_batch, 32);
    EXPECT_GT(result.counters.preemptions, 0);
    EXPECT_GT(result.counters.prefix_hits_tokens, 0);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(result.tokens[i], want[i]) << "request " << i;
  }
}

TEST(Law1Model, SmolLm2Integer) {
  const Modes modes = {engine::WeightMode::kFile, engine::ActivationMode::kA8, "f16"};
  ExpectLaw1("smollm2", {modes, 3, 56, 64, 211, 58});
}

TEST(Law1Model, SmolLm2Float) {
  const Modes modes = {engine::WeightMode::kF32, engine::ActivationMode::kF32, "f16"};
  ExpectLaw1("smollm2", {modes, 1, 56, 64, 211, 58});
}

}  // namespace
}  // namespace nibble
