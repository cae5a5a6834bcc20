// Law 1 on tiny seeded models of every architecture, in f32 and in integers. Built a second time with one float sum
// reversed on the scalar target, where it must fail (law1_negative_control in CMakeLists.txt).
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/law1_fixture.h"

namespace nibble {
namespace {

// Long enough that the first answers still run when the last prompt has been read.
constexpr int kMaxTokens = 15;

struct Setting {
  const char* model;
  Modes modes;
  // As files of `nibble quantize` have them.
  bool int8_inputs = false;
  bool rotated = false;
};

// A few of every product's inputs, others in each layer.
std::vector<engine::Int8Inputs> SomeInt8Inputs(const engine::ModelConfig& config) {
  std::vector<engine::Int8Inputs> layers;
  for (int32_t i = 0; i < config.num_layers; ++i) layers.push_back({{i, 7, 20}, {i, 30}, {2, 3 + i}, {5, 33 + i}});
  return layers;
}

// What is in 8 bits taken for rotated weights: another model, as good as the first.
std::unique_ptr<engine::WeightSource> Rotated(const engine::WeightSource& source) {
  std::vector<engine::Tensor> tensors(source.tensors().begin(), source.tensors().end());
  for (engine::Tensor& tensor : tensors) {
    if (tensor.encoding == engine::Encoding::kQ8_0) tensor.encoding = engine::Encoding::kH8_0;
  }
  return engine::MakeWeightSource(std::move(tensors), nullptr);
}

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.model; }

class Law1 : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    auto file = engine::OpenModelFile(std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + GetParam().model);
    ASSERT_THAT(file, IsOk());
    file_ = *std::move(file);
    if (GetParam().int8_inputs) file_.config.int8_inputs = SomeInt8Inputs(file_.config);
    if (GetParam().rotated) {
      source_ = std::move(file_.weights);
      file_.weights = Rotated(*source_);
    }
    prompts_ = MakePrompts(17, 134, 200, file_.config.vocab_size);
    // Long ones reach well into the second segment of attention.
    for (const auto& longer : MakePrompts(3, 440, 480, file_.config.vocab_size)) prompts_.push_back(longer);
    // The company of 32: the twenty, and twelve more whose answers nobody compares.
    company_ = prompts_;
    for (const auto& filler : MakePrompts(12, 40, 60, file_.config.vocab_size)) company_.push_back(filler);
    alone_ = Answer(file_, GetParam().modes, {}, prompts_, kMaxTokens, ledger_).tokens;
    ASSERT_EQ(ledger_.entries(), 20 * kMaxTokens);
  }

  RunResult ExpectSameBits(const Company& company) {
    const int64_t before = ledger_.confirmations() + ledger_.contradictions();
    RunResult result = Answer(file_, GetParam().modes, company, company_, kMaxTokens, ledger_);
    EXPECT_GE(ledger_.confirmations() + ledger_.contradictions() - before, 20 * kMaxTokens) << "nothing was compared";
    EXPECT_EQ(ledger_.contradictions(), 0)
        << simd::Name(company.isa) << ", " << company.threads << " threads, steps of " << company.step_tokens;
    for (size_t i = 0; i < alone_.size(); ++i) EXPECT_EQ(result.tokens[i], alone_[i]) << "request " << i;
    return result;
  }

  std::unique_ptr<engine::WeightSource> source_;  // of the bytes, where the file's is another
  engine::ModelFile file_;
  std::vector<std::vector<int32_t>> prompts_, company_, alone_;
  LogitsLedger ledger_;
};

TEST_P(Law1, CompanyChunksThreadsAndTargetsDoNotShow) {
  for (simd::Isa isa : simd::SupportedIsas()) {
    for (int threads : {1, 2}) {
      // The plainest target is slow: there, one thread in the batch is enough, since alone is its other side.
      if (isa == simd::Isa::kScalar && threads == 2) continue;
      const RunResult result = ExpectSameBits({isa, threads, /*step_tokens=*/449, /*max_sequences=*/32, /*pages=*/4096,
                                               /*raw_slots=*/0, /*together=*/true});
      EXPECT_EQ(result.largest_batch, 32);
    }
  }
}

TEST_P(Law1, PrefixHitsDoNotShow) {
  const RunResult result = ExpectSameBits(
      {simd::SupportedIsas().back(), 2, 512, /*max_sequences=*/3, /*pages=*/4096, /*raw_slots=*/0, /*together=*/true});
  EXPECT_GT(result.counters.prefix_hits_tokens, 100);
}

TEST_P(Law1, PreemptionDoesNotShow) {
  const RunResult result = ExpectSameBits(
      {simd::SupportedIsas().back(), 2, 449, /*max_sequences=*/32, /*pages=*/60, /*raw_slots=*/0, /*together=*/true});
  EXPECT_GT(result.counters.preemptions, 0);
  EXPECT_GT(result.counters.recomputed_tokens, 0);
}

constexpr Modes kInteger = {engine::WeightMode::kFile, engine::ActivationMode::kA8, "f16"};
constexpr Modes kFloat = {engine::WeightMode::kF32, engine::ActivationMode::kF32, "f16"};
constexpr Modes kRounded4 = {engine::WeightMode::kW4, engine::ActivationMode::kA8, "f16"};
constexpr Modes kW4A4 = {engine::WeightMode::kW4, engine::ActivationMode::kA4, "f16"};

INSTANTIATE_TEST_SUITE_P(
    Models, Law1,
    testing::Values(Setting{"tiny-llama-quantized.gguf", kInteger}, Setting{"tiny-llama-f32.gguf", kFloat},
                    Setting{"tiny-llama-f32.gguf", kRounded4}, Setting{"tiny-llama-f32.gguf", kW4A4},
                    Setting{"tiny-llama-quantized.gguf", kW4A4, /*int8_inputs=*/true},
                    Setting{"tiny-qwen2-bf16.gguf", kInteger}, Setting{"tiny-qwen3-f16.gguf", kInteger},
                    Setting{"tiny-gemma3-q8_0.gguf", kInteger}, Setting{"tiny-gemma3-q8_0.gguf", kFloat},
                    Setting{"tiny-gemma3-q8_0.gguf", kInteger, /*int8_inputs=*/false, /*rotated=*/true}));

}  // namespace
}  // namespace nibble
