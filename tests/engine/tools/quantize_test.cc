// Tiny models quantized, end to end.
#include "engine/tools/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/quant/weight_groups.h"
#include "engine/tools/eval.h"
#include "engine/tools/product_statistics.h"
#include "engine/weights/mapped_file.h"
#include "engine/weights/quantized_file.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

void NoProgress(const std::string&, int64_t, int64_t) {}

QuantizeOptions Options(WeightMode weights, ActivationMode activations) {
  QuantizeOptions options;
  options.weights = weights;
  options.activations = activations;
  options.chunks = {200, 2};
  return options;
}

QuantizedWeights Quantize(const OpenedModel& model, const std::vector<int32_t>& ids, const QuantizeOptions& options) {
  absl::StatusOr<QuantizedWeights> weights = QuantizeWeights(model, ids, options, NoProgress);
  EXPECT_THAT(weights, IsOk());
  return *std::move(weights);
}

const Tensor& Find(const QuantizedWeights& weights, const std::string& name) {
  return *std::find_if(weights.tensors.begin(), weights.tensors.end(), [&](const Tensor& t) { return t.name == name; });
}

// Everything, one after another.
std::string BytesOf(const QuantizedWeights& weights) {
  std::string bytes;
  for (const Tensor& tensor : weights.tensors) {
    bytes.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  for (const Int8Inputs& layer : weights.int8_inputs) {
    for (const auto* list : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down}) {
      bytes.append(reinterpret_cast<const char*>(list->data()), list->size() * sizeof(int32_t));
    }
  }
  return bytes;
}

TEST(Quantize, W4A4RoundsTheLayersAndChoosesInputs) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const ModelConfig& config = model.file.config;
  const QuantizedWeights weights = Quantize(model, SomeIds(700), Options(WeightMode::kW4, ActivationMode::kA4));
  EXPECT_EQ(weights.tokens, 400);
  EXPECT_EQ(Find(weights, "blk.0.attn_q.weight").encoding, Encoding::kQ4_1);
  EXPECT_EQ(Find(weights, "blk.1.ffn_down.weight").encoding, Encoding::kQ4_1);
  EXPECT_EQ(Find(weights, "token_embd.weight").encoding, Encoding::kQ8_0);
  EXPECT_EQ(Find(weights, "blk.0.attn_norm.weight").encoding, Encoding::kF32);
  ASSERT_EQ(weights.int8_inputs.size(), static_cast<size_t>(config.num_layers));
  for (const Int8Inputs& layer : weights.int8_inputs) {
    EXPECT_EQ(layer.qkv.size(), static_cast<size_t>(config.hidden_size / 8));
    EXPECT_EQ(layer.down.size(), static_cast<size_t>(config.intermediate_size / 8));
    EXPECT_TRUE(std::is_sorted(layer.gate_up.begin(), layer.gate_up.end()));
  }
}

// The bytes must outlive it.
OpenedModel OpenBytes(const std::string& bytes) {
  OpenedModel model;
  model.file =
      *ParseModelFile(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()), nullptr);
  model.tokenizer = *Tokenizer::Create(model.file.tokenizer);
  return model;
}

// The model in the file that would be made of it; the bytes must outlive it.
OpenedModel Reopened(const std::string& name, const QuantizedWeights& weights, std::string* bytes) {
  const std::shared_ptr<const MappedFile> source = *MappedFile::Open(TinyModelPath(name));
  *bytes = SerializeQuantized({{}, source->bytes(), weights.tensors, weights.int8_inputs});
  return OpenBytes(*bytes);
}

TEST(Quantize, TheFileRunsAsTheModelDoes) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
  const QuantizedWeights weights = Quantize(model, SomeIds(700), Options(WeightMode::kW4, ActivationMode::kA4));
  std::string bytes;
  const OpenedModel quantized = Reopened("tiny-llama-quantized", weights, &bytes);
  EvalOptions options;
  options.chunks = {200, 2};
  options.modes = {{"file", "a8", "f16"}, {"file", "a4", "f16"}};
  const auto rows = Evaluate(quantized, SomeIds(500), options, [](int64_t, int64_t) {});
  ASSERT_THAT(rows, IsOk());
  EXPECT_LT((*rows)[0].kl_divergence, (*rows)[1].kl_divergence);
  EXPECT_LT((*rows)[1].kl_divergence, 0.5);
}

TEST(Quantize, CodesOfFourBitsAreNotRoundedAgain) {
  const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
  const QuantizedWeights weights = Quantize(model, {}, Options(WeightMode::kW4, ActivationMode::kA8));
  int kept = 0;
  for (const Tensor& tensor : model.file.weights->tensors()) {
    if (!HasGroupCodes(tensor) || FormatOf(tensor, GroupRounding::kAsInFile).bits != 4) continue;
    EXPECT_EQ(Find(weights, tensor.name).data.data(), tensor.data.data()) << tensor.name;
    ++kept;
  }
  EXPECT_GT(kept, 0);
}

TEST(Quantize, WithoutATextWeightsAreRoundedToTheNearest) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const QuantizedWeights weights = Quantize(model, {}, Options(WeightMode::kW4, ActivationMode::kA4));
  EXPECT_TRUE(weights.int8_inputs.empty());
  const Tensor& source = *model.file.weights->Find("blk.1.ffn_up.weight");
  const Tensor& rounded = Find(weights, "blk.1.ffn_up.weight");
  std::vector<float> values(static_cast<size_t>(source.cols())), got(values);
  for (int64_t row = 0; row < source.rows(); ++row) {
    DecodeRow(source, row, absl::MakeSpan(values));
    DecodeRow(rounded, row, absl::MakeSpan(got));
    for (int64_t k = 0; k < source.cols(); ++k) {
      int8_t codes[kGroupSize];
      float scale, min;
      RoundGroupW4(absl::MakeConstSpan(values).subspan(k / kGroupSize * kGroupSize, kGroupSize), codes, &scale, &min);
      EXPECT_EQ(got[k], scale * static_cast<float>(codes[k % kGroupSize]) + min);
    }
  }
}

TEST(Quantize, W8A8MakesBytesAndNeedsNoText) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const QuantizedWeights weights = Quantize(model, {}, Options(WeightMode::kW8, ActivationMode::kA8));
  EXPECT_EQ(Find(weights, "blk.0.attn_q.weight").encoding, Encoding::kQ8_0);
  EXPECT_EQ(Find(weights, "token_embd.weight").encoding, Encoding::kQ8_0);
}

class SmoothedArchitectures : public testing::TestWithParam<std::string> {};

// Smoothing is folded into what makes the inputs, and turning them into weights: in float the model is the same but for
// its rounding to 8 bits.
TEST_P(SmoothedArchitectures, AreTheSameModelWithOtherNorms) {
  const OpenedModel model = OpenTinyModel(GetParam());
  const QuantizedWeights weights = Quantize(model, SomeIds(700), Options(WeightMode::kW8, ActivationMode::kA8));
  EXPECT_TRUE(weights.int8_inputs.empty());
  for (const char* name : {"blk.0.attn_norm.weight", "blk.1.ffn_norm.weight", "output_norm.weight"}) {
    const Tensor &norm = Find(weights, name), &before = *model.file.weights->Find(name);
    std::vector<float> values(static_cast<size_t>(norm.cols())), old(values);
    DecodeRow(norm, 0, absl::MakeSpan(values));
    DecodeRow(before, 0, absl::MakeSpan(old));
    EXPECT_NE(values, old) << name;
  }
  EXPECT_EQ(Find(weights, "output.weight").encoding, Encoding::kH8_0);
  EXPECT_EQ(Find(weights, "blk.1.ffn_down.weight").encoding, Encoding::kH8_0);
  EXPECT_NE(Find(weights, "blk.1.attn_output.weight").encoding, Encoding::kH8_0);
  EXPECT_NE(Find(weights, "token_embd.weight").encoding, Encoding::kH8_0);
  std::string bytes;
  const OpenedModel quantized = Reopened(GetParam(), weights, &bytes);
  EXPECT_FALSE(quantized.file.config.tied_embeddings);
  EvalOptions options;
  options.chunks = {200, 2};
  options.base = &model;
  options.modes = {{"file", "f32", "f16"}, {"file", "a8", "f16"}};
  const auto rows = Evaluate(quantized, SomeIds(500), options, [](int64_t, int64_t) {});
  ASSERT_THAT(rows, IsOk());
  EXPECT_LT((*rows)[0].kl_divergence, 1.7e-3);
  EXPECT_LT((*rows)[0].kl_divergence, (*rows)[1].kl_divergence);
  EXPECT_LT((*rows)[1].kl_divergence, 5e-3);
}

// The file of tiny-llama-f32 with one input of q|k|v and of gate|up made `times` as large, and the weights that it
// meets as much smaller: the same model, hard to round.
std::string WithLargeInputs(float times) {
  const std::shared_ptr<const MappedFile> file = *MappedFile::Open(TinyModelPath("tiny-llama-f32"));
  std::string bytes(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  const ModelFile model = OpenBytes(bytes).file;
  constexpr int64_t kInput = 5;
  const auto scale = [&](int64_t layer, std::string_view name, float by) {
    const Tensor& tensor = *model.weights->Find(absl::StrCat("blk.", layer, ".", std::string(name)));
    const auto offset = reinterpret_cast<const char*>(tensor.data.data()) - bytes.data();
    auto* values = reinterpret_cast<float*>(bytes.data() + offset);
    for (int64_t row = 0; row < tensor.rows(); ++row) values[row * tensor.cols() + kInput] *= by;
  };
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    for (const char* norm : {"attn_norm.weight", "ffn_norm.weight"}) scale(layer, norm, times);
    for (const Product product : {Product::kQkv, Product::kGateUp}) {
      for (const std::string_view matrix : RowOf(product).parts) scale(layer, matrix, 1 / times);
    }
  }
  return bytes;
}

TEST(Quantize, SmoothingMakesGoodWhatLargeInputsCost) {
  const std::string source = WithLargeInputs(100.0f);
  const OpenedModel model = OpenBytes(source);
  std::vector<double> divergences;
  for (const std::vector<int32_t>& ids : {std::vector<int32_t>(), SomeIds(700)}) {
    const QuantizedWeights weights = Quantize(model, ids, Options(WeightMode::kW8, ActivationMode::kA8));
    std::string bytes;
    const OpenedModel quantized = Reopened("tiny-llama-f32", weights, &bytes);
    EvalOptions options;
    options.chunks = {200, 2};
    options.base = &model;
    options.modes = {{"file", "a8", "f16"}};
    const auto rows = Evaluate(quantized, SomeIds(500), options, [](int64_t, int64_t) {});
    ASSERT_THAT(rows, IsOk());
    divergences.push_back((*rows)[0].kl_divergence);
  }
  EXPECT_LT(divergences[1], 0.02 * divergences[0]);
}

TEST(Quantize, W8A4KeepsInputsAndNorms) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const QuantizedWeights weights = Quantize(model, SomeIds(700), Options(WeightMode::kW8, ActivationMode::kA4));
  EXPECT_EQ(weights.int8_inputs.size(), static_cast<size_t>(model.file.config.num_layers));
  EXPECT_EQ(weights.tensors.size(), model.file.weights->tensors().size());
  EXPECT_EQ(Find(weights, "blk.0.attn_norm.weight").data.data(),
            model.file.weights->Find("blk.0.attn_norm.weight")->data.data());
  EXPECT_EQ(Find(weights, "blk.1.ffn_down.weight").encoding, Encoding::kQ8_0);
}

TEST(Quantize, AProductWhoseInputsFillNoGroupIsRefused) {
  OpenedModel model = OpenTinyModel("tiny-llama-f32");
  model.file.config.head_dim = 20;
  EXPECT_THAT(QuantizeWeights(model, {}, Options(WeightMode::kW8, ActivationMode::kA8), NoProgress),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("attn_output has")));
}

INSTANTIATE_TEST_SUITE_P(All, SmoothedArchitectures,
                         testing::Values("tiny-llama-f32", "tiny-llama-quantized", "tiny-mistral-f16",
                                         "tiny-qwen2-bf16", "tiny-qwen3-f16", "tiny-gemma3-q8_0"),
                         [](const auto& info) {
                           return absl::StrReplaceAll(info.param, {{"-", "_"}});
                         });

TEST(Quantize, ThreadsAndTheLayersWatchedAtOnceDoNotShow) {
  const absl::FlagSaver saver;
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  for (QuantizeOptions options :
       {Options(WeightMode::kW4, ActivationMode::kA4), Options(WeightMode::kW8, ActivationMode::kA8)}) {
    absl::SetFlag(&FLAGS_threads, 1);
    const std::string want = BytesOf(Quantize(model, SomeIds(700), options));
    absl::SetFlag(&FLAGS_threads, 2);
    options.statistics_bytes = 1;
    EXPECT_EQ(BytesOf(Quantize(model, SomeIds(700), options)), want);
  }
}

TEST(Quantize, TextsThatDoNotFitAreRefused) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  QuantizeOptions options = Options(WeightMode::kW4, ActivationMode::kA4);
  EXPECT_THAT(QuantizeWeights(model, SomeIds(100), options, NoProgress),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--context=200")));
  options.chunks.context = 1 << 20;
  EXPECT_THAT(QuantizeWeights(model, SomeIds(100), options, NoProgress),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--context=")));
}

TEST(ProductStatistics, OfTheHeadAreKeptWhateverTheLayers) {
  WorkerPool pool(1);
  ProductStatistics statistics(1, 2, /*with_head=*/true, simd::SupportedIsas().back(), pool);
  std::vector<float> x = {1, 2};
  statistics.OnHead({x.data(), 1, 2});
  EXPECT_THAT(statistics.head().sums, testing::ElementsAre(1.0f, 2.0f, 2.0f, 4.0f));
}

TEST(ProductStatistics, AreTheSumsOverAllRowsOfTheWatchedLayers) {
  WorkerPool pool(1);
  ProductStatistics statistics(1, 2, /*with_head=*/false, simd::SupportedIsas().back(), pool);
  std::vector<float> x = {1, 2, 3, -4, 0.5f, 6};
  EXPECT_FALSE(statistics.OnProduct({0, Product::kDown, {}, {x.data(), 3, 2}}));
  EXPECT_FALSE(statistics.OnProduct({1, Product::kDown, {}, {x.data(), 3, 2}}));
  EXPECT_FALSE(statistics.OnProduct({1, Product::kDown, {}, {x.data(), 1, 2}}));
  const InputMoments& moments = statistics.layer(1)[static_cast<size_t>(Product::kDown)];
  EXPECT_EQ(moments.size, 2);
  EXPECT_THAT(moments.sums, testing::ElementsAre(11.25f, -5.0f, -5.0f, 60.0f));
  EXPECT_EQ(moments.energy(1), 60.0f);
  EXPECT_EQ(statistics.layer(1)[0].size, 0) << "nothing was shown";
  statistics.OnHead({x.data(), 3, 2});
  EXPECT_EQ(statistics.head().size, 0) << "nothing was asked for";
}

}  // namespace
}  // namespace nibble::engine
