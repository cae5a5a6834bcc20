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

// `alone` prompts run by themselves on the scalar target; then in company on every target and with two threads.
void ExpectLaw1(const std::string& model, const Modes& modes, int alone, int64_t longest, int max_tokens) {
  auto file = engine::OpenModelFile(ModelPath(model));
  ASSERT_THAT(file, IsOk()) << "fetch it with deploy/fetch_model.py " << model;
  LogitsLedger ledger;
  auto prompts = MakePrompts(alone, longest, file->config.vocab_size);
  const auto want = Answer(*file, modes, {}, prompts, max_tokens, ledger).tokens;
  for (const auto& filler : MakePrompts(32 - alone, 40, file->config.vocab_size)) prompts.push_back(filler);
  for (simd::Isa isa : simd::SupportedIsas()) {
    if (isa == simd::Isa::kScalar) continue;
    const Company company = {isa, 2, /*step_tokens=*/61, /*max_sequences=*/32, /*pages=*/40, /*together=*/true};
    const RunResult result = Answer(*file, modes, company, prompts, max_tokens, ledger);
    EXPECT_EQ(ledger.contradictions(), 0) << simd::Name(isa);
    EXPECT_GT(result.counters.preemptions, 0);
    EXPECT_GT(result.counters.prefix_hits_tokens, 0);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(result.tokens[i], want[i]) << "request " << i;
  }
  EXPECT_GE(ledger.confirmations(), alone * max_tokens);
}

TEST(Law1Model, SmolLm2Integer) {
  ExpectLaw1("smollm2", {engine::WeightMode::kFile, engine::ActivationMode::kA8}, 20, 100, 4);
}

TEST(Law1Model, SmolLm2Float) {
  ExpectLaw1("smollm2", {engine::WeightMode::kF32, engine::ActivationMode::kF32}, 2, 70, 3);
}

}  // namespace
}  // namespace nibble
