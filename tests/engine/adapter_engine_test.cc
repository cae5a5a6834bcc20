// Fine-tunes on the real engine, for every architecture: a delta beside the rounded model is near the model that it
// stands for, and law 1 holds for whoever runs with whichever.
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/adapters/delta_file.h"
#include "engine/cpu_engine.h"
#include "engine/tools/solo_sequence.h"
#include "engine/weights/layer_products.h"
#include "gtest/gtest.h"
#include "kvcache/simd/isa.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

constexpr const char* kModels[] = {"tiny-llama-quantized", "tiny-mistral-f16", "tiny-qwen2-bf16", "tiny-qwen3-f16",
                                   "tiny-gemma3-q8_0"};

double MeanMagnitude(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.cols()));
  double sum = 0;
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    DecodeRow(tensor, row, absl::MakeSpan(values));
    for (const float value : values) sum += std::fabs(value);
  }
  return sum / static_cast<double>(tensor.rows() * tensor.cols());
}

// A fine-tune of everything: projections by `planes` planes of signs, all else by codes, each about a fifth of what it
// adds to.
DeltaFile RandomDelta(const WeightSource& base, uint32_t seed, int64_t planes) {
  std::mt19937 random(seed);
  DeltaFile delta;
  for (const Tensor& tensor : base.tensors()) {
    const auto size = static_cast<float>(0.2 * MeanMagnitude(tensor));
    if (IsProjection(tensor.name)) {
      const int64_t words = (tensor.cols() + 31) / 32, used = tensor.cols() % 32;
      SignDelta signs(planes, tensor.rows(), words, /*scale_per_row=*/planes == 2);
      for (uint32_t& word : signs.mutable_signs()) word = static_cast<uint32_t>(random());
      for (int64_t row = 0; used != 0 && row < planes * tensor.rows(); ++row) {
        signs.MutableSignsOf(row / tensor.rows(), row % tensor.rows()).back() &= (1u << used) - 1;
      }
      for (float& scale : signs.mutable_scales()) scale = size;
      delta.signs.emplace(tensor.name, std::move(signs));
    } else {
      CodeDelta codes(tensor.rows(), tensor.cols());
      for (int8_t& code : codes.mutable_codes()) code = static_cast<int8_t>(random() % 255 - 127);
      for (float& scale : codes.mutable_scales()) scale = size / 64;
      delta.codes.emplace(tensor.name, std::move(codes));
    }
  }
  return delta;
}

struct Setting {
  WeightMode weights = WeightMode::kFile;
  ActivationMode activations = ActivationMode::kA8;
  simd::Isa isa = simd::Isa::kScalar;
  int threads = 1;
};

std::unique_ptr<CpuEngine> EngineOf(const ModelFile& file, const Setting& setting) {
  EngineOptions options;
  options.weights = setting.weights;
  options.activations = setting.activations;
  options.isa = simd::Name(setting.isa);
  options.threads = setting.threads;
  options.kv_pages = 16;
  auto engine = CreateEngine(options, file);
  EXPECT_THAT(engine, IsOk());
  return *std::move(engine);
}

std::vector<int32_t> Prompt(uint32_t seed, size_t tokens, int64_t vocab_size) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(tokens);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size));
  return ids;
}

// The logits of every token of a prompt, alone.
std::vector<float> LogitsAlone(CpuEngine& engine, const Adapter* adapter, const std::vector<int32_t>& prompt) {
  std::vector<float> logits(prompt.size() * static_cast<size_t>(engine.vocab_size()));
  SoloSequence sequence(engine, static_cast<int64_t>(prompt.size()));
  sequence.set_adapter(adapter);
  EXPECT_TRUE(sequence.AppendForLogits(prompt, static_cast<int64_t>(prompt.size()), logits.data()));
  return logits;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - b[i], 2);
    norm += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

class AdapterEngine : public testing::TestWithParam<const char*> {
 protected:
  AdapterEngine() {
    auto file = OpenModelFile(std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + GetParam() + ".gguf");
    EXPECT_THAT(file, IsOk());
    file_ = *std::move(file);
    for (const int64_t planes : {1, 2}) {
      deltas_.push_back(RandomDelta(*file_.weights, static_cast<uint32_t>(planes), planes));
    }
  }

  ModelFile file_;
  std::vector<DeltaFile> deltas_;
};

TEST_P(AdapterEngine, IsNearTheModelWithTheDeltaAddedToItsWeights) {
  const std::unique_ptr<CpuEngine> engine = EngineOf(file_, {});
  const std::vector<int32_t> prompt = Prompt(1, 20, engine->vocab_size());
  const std::vector<float> base = LogitsAlone(*engine, nullptr, prompt);
  const Setting reference = {WeightMode::kF32, ActivationMode::kF32};
  const double rounding = Distance(base, LogitsAlone(*EngineOf(file_, reference), nullptr, prompt));
  for (const DeltaFile& delta : deltas_) {
    const ModelFile merged = {file_.config, {}, MergedWeights(*file_.weights, delta)};
    const std::vector<float> want = LogitsAlone(*EngineOf(merged, reference), nullptr, prompt);
    const auto adapter = engine->LoadAdapter(delta, [] {});
    ASSERT_THAT(adapter, IsOk());
    EXPECT_LT(Distance(LogitsAlone(*engine, adapter->get(), prompt), want), 3 * rounding + 0.01);
    EXPECT_GT(Distance(base, want), 8 * rounding + 0.05) << "the control: the fine-tune matters";
  }
}

TEST_P(AdapterEngine, Law1HoldsForWhoeverRunsWithWhichever) {
  const std::vector<size_t> lengths = {3, 17, 1, 9, 5, 12, 1, 1};
  const std::vector<int> adapter_of = {0, 1, 2, 1, 0, 2, 1, 2};  // 0: none
  std::vector<std::vector<float>> alone;
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const std::unique_ptr<CpuEngine> engine = EngineOf(file_, {.isa = isa, .threads = 2});
    std::vector<std::unique_ptr<const Adapter>> adapters(1);
    for (const DeltaFile& delta : deltas_) adapters.push_back(*engine->LoadAdapter(delta, [] {}));
    std::vector<std::vector<int32_t>> prompts;
    std::vector<std::vector<float>> logits;
    std::vector<SoloSequence> sequences;
    StepPlan plan;
    for (size_t i = 0; i < lengths.size(); ++i) {
      prompts.push_back(Prompt(static_cast<uint32_t>(i), lengths[i], engine->vocab_size()));
      logits.emplace_back(lengths[i] * static_cast<size_t>(engine->vocab_size()));
      sequences.emplace_back(*engine, static_cast<int64_t>(lengths[i]), static_cast<kv::PageId>(i));
      sequences.back().set_adapter(adapters[static_cast<size_t>(adapter_of[i])].get());
    }
    for (size_t i = 0; i < lengths.size(); ++i) {
      SequenceStep step = sequences[i].StepFor(prompts[i], nullptr);
      step.logit_rows = static_cast<int64_t>(lengths[i]);
      step.logits_out = logits[i].data();
      plan.sequences.push_back(step);
    }
    engine->Launch(plan);
    engine->Await();
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (isa == simd::SupportedIsas().front()) {
        const std::unique_ptr<CpuEngine> scalar = EngineOf(file_, {});
        const auto adapter = adapter_of[i] == 0 ? nullptr : *scalar->LoadAdapter(deltas_[adapter_of[i] - 1], [] {});
        alone.push_back(LogitsAlone(*scalar, adapter.get(), prompts[i]));
      }
      for (size_t at = 0; at < logits[i].size(); ++at) {
        ASSERT_EQ(std::bit_cast<uint32_t>(logits[i][at]), std::bit_cast<uint32_t>(alone[i][at]))
            << simd::Name(isa) << " sequence " << i << " logit " << at;
      }
    }
  }
}

TEST_P(AdapterEngine, SaysWhetherAStepRunsAndPausesWhileLoading) {
  const std::unique_ptr<CpuEngine> engine = EngineOf(file_, {});
  int pauses = 0;
  ASSERT_THAT(engine->LoadAdapter(deltas_[0], [&] { ++pauses; }), IsOk());
  EXPECT_GE(pauses, 2);
  EXPECT_FALSE(engine->busy());
  const StepPlan plan;
  engine->Launch(plan);
  EXPECT_TRUE(engine->busy());
  engine->Await();
  EXPECT_FALSE(engine->busy());
}

TEST_P(AdapterEngine, FloatActivationsRunNone) {
  const Setting setting = {WeightMode::kF32, ActivationMode::kF32};
  EXPECT_THAT(EngineOf(file_, setting)->LoadAdapter(deltas_[0], [] {}),
              StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr("activations")));
}

INSTANTIATE_TEST_SUITE_P(Models, AdapterEngine, testing::ValuesIn(kModels));

}  // namespace
}  // namespace nibble::engine
