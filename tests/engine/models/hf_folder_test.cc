// A Hugging Face folder and the GGUF file that is its plain conversion are one model: bit for bit.
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/weights/config_gguf.h"
#include "engine/weights/fingerprint.h"
#include "tests/engine/models/golden.h"
#include "tests/engine/weights/gguf_builder.h"
#include "tests/engine/weights/hf_folder.h"

namespace nibble::engine {
namespace {

std::string FileBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

// Gemma's norms are stored without the 1 that they add. To compare bits, the file has what storing them so leaves.
std::string WithStorableNorms(std::string bytes) {
  const auto file = GgufFile::Parse(AsBytes(bytes));
  for (const GgufTensor& tensor : file->tensors()) {
    if (!tensor.name.ends_with("norm.weight")) continue;
    auto* values = reinterpret_cast<float*>(bytes.data() + tensor.data_offset);
    for (size_t i = 0; i < tensor.data.size() / sizeof(float); ++i) values[i] = (values[i] - 1.0f) + 1.0f;
  }
  return bytes;
}

HfFolder FolderOf(const std::string& bytes) {
  const auto file = GgufFile::Parse(AsBytes(bytes));
  EXPECT_THAT(file, IsOk());
  return HfFolderFrom(*file);
}

std::vector<float> LogitsOf(const ModelFile& file, WeightMode weights, ActivationMode activations) {
  EngineOptions options;
  options.weights = weights;
  options.activations = activations;
  options.kv_memory_bytes = int64_t{16} << 20;
  options.step_tokens = 64;
  options.threads = 2;
  const auto engine = CreateEngine(options, file);
  EXPECT_THAT(engine, IsOk());
  if (!engine.ok()) return {};
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 50; ++i) tokens.push_back((i * i * 7 + i * 31 + 5) % 280);
  return RunInChunks(**engine, tokens, 16);
}

class HfFolderModel : public testing::TestWithParam<const char*> {
 protected:
  std::string Name() const { return "hf_" + std::string(GetParam()); }
  const std::string bytes_ = WithStorableNorms(FileBytes(GoldenPath(std::string(GetParam()) + ".gguf")));
};

TEST_P(HfFolderModel, LogitsEqualTheGgufFiles) {
  const auto gguf = ParseModelFile(AsBytes(bytes_), nullptr);
  ASSERT_THAT(gguf, IsOk());
  // Q8_0 weights, which a folder cannot hold, are the same in float only.
  const bool same_encodings = std::string(GetParam()).find("q8_0") == std::string::npos;
  for (const size_t shards : {size_t{1}, size_t{3}}) {
    const WrittenFolder written(FolderOf(bytes_), Name(), shards);
    const auto folder = OpenModelFile(written.path());
    ASSERT_THAT(folder, IsOk());
    EXPECT_EQ(LogitsOf(*folder, WeightMode::kF32, ActivationMode::kF32),
              LogitsOf(*gguf, WeightMode::kF32, ActivationMode::kF32));
    if (!same_encodings) continue;
    EXPECT_EQ(LogitsOf(*folder, WeightMode::kFile, ActivationMode::kA8),
              LogitsOf(*gguf, WeightMode::kFile, ActivationMode::kA8));
    EXPECT_EQ(ModelSha256(*folder->weights), ModelSha256(*gguf->weights));
  }
}

TEST_P(HfFolderModel, LogitsEqualTheReference) {
  const WrittenFolder written(FolderOf(FileBytes(GoldenPath(std::string(GetParam()) + ".gguf"))), Name());
  ExpectGoldenLogits(written.path(), GetParam(), 17);
}

TEST_P(HfFolderModel, TokensAndTheirRolesEqualTheGgufFiles) {
  const auto gguf = ParseModelFile(AsBytes(bytes_), nullptr);
  const WrittenFolder written(FolderOf(bytes_), Name());
  const auto folder = OpenModelFile(written.path());
  ASSERT_THAT(gguf, IsOk());
  ASSERT_THAT(folder, IsOk());
  const auto expected = Tokenizer::Create(gguf->tokenizer), actual = Tokenizer::Create(folder->tokenizer);
  ASSERT_THAT(expected, IsOk());
  ASSERT_THAT(actual, IsOk());
  for (const char* text :
       {"the cat and the hen", "<|im_start|>  in\n\ning <bos>", "", "caf\xC3\xA9 \xFF", "123 sees"}) {
    for (const bool parse_special : {false, true}) {
      const EncodeOptions options{.add_special = true, .parse_special = parse_special};
      EXPECT_EQ((*actual)->Encode(text, options), (*expected)->Encode(text, options)) << text;
    }
  }
  EXPECT_EQ(folder->tokenizer.tokens, gguf->tokenizer.tokens);
  EXPECT_EQ(folder->tokenizer.types, gguf->tokenizer.types);
  EXPECT_EQ(folder->tokenizer.bos, gguf->tokenizer.bos);
  EXPECT_EQ(folder->tokenizer.pad, gguf->tokenizer.pad);
  EXPECT_EQ((*actual)->end_of_generation_ids(), (*expected)->end_of_generation_ids());
}

INSTANTIATE_TEST_SUITE_P(Tiny, HfFolderModel,
                         testing::Values("tiny-llama-f32", "tiny-mistral-f16", "tiny-qwen2-bf16", "tiny-qwen3-f16",
                                         "tiny-gemma3-q8_0"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace nibble::engine
