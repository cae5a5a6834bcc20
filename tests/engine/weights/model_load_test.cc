// Rows 49 and 55 of the robustness table: files on the disk, and what is left behind when a load fails.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/weights/mapped_file.h"
#include "engine/weights/model_file.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

class ModelLoad : public testing::Test {
 protected:
  ModelLoad() : path_(testing::TempDir() + "model_load_" + std::to_string(getpid()) + ".gguf") {}
  ~ModelLoad() override { std::filesystem::remove(path_); }

  absl::StatusOr<ModelFile> Load(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    return OpenModelFile(path_);
  }

  const std::string path_;
};

int OpenDescriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

bool IsMapped(const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with(path)) return true;
  }
  return false;
}

TEST_F(ModelLoad, TheWeightsOwnTheMapping) {
  const int descriptors = OpenDescriptors();
  {
    auto model = Load(TinyGguf("qwen3").Build());
    ASSERT_THAT(model, IsOk());
    EXPECT_TRUE(IsMapped(path_));
    const std::unique_ptr<WeightSource> weights = std::move(model->weights);
    const Tensor* tensor = weights->Find("blk.1.ffn_gate.weight");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->rows(), 12);
    EXPECT_EQ(tensor->cols(), 8);
    EXPECT_EQ(tensor->data.size(), 12u * 8 * 4);
    EXPECT_EQ(weights->Find("blk.2.ffn_gate.weight"), nullptr);
    EXPECT_EQ(weights->Find(""), nullptr);
    EXPECT_EQ(weights->Find("zz"), nullptr);  // behind all names
    EXPECT_EQ(weights->tensors().size(), 2u + 2 * 11);
  }
  EXPECT_FALSE(IsMapped(path_));
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST_F(ModelLoad, FromMemoryTheOwnerLivesAsLongAsTheWeights) {
  auto bytes = std::make_shared<const std::string>(TinyGguf("llama").Build());
  const std::weak_ptr<const std::string> watch = bytes;
  const auto span = AsBytes(*bytes);
  auto model = ParseModelFile(span, std::move(bytes));
  ASSERT_THAT(model, IsOk());
  EXPECT_FALSE(watch.expired());
  model->weights.reset();
  EXPECT_TRUE(watch.expired());
}

TEST_F(ModelLoad, Row49_CutAnywhereIsRefused) {
  const std::string bytes = TinyGguf("qwen2").Build();
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 64) {
    ASSERT_THAT(Load(bytes.substr(0, size)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("at byte")));
  }
}

TEST_F(ModelLoad, Row55_FailureAtEachStageLeavesNothingBehind) {
  const std::pair<const char*, std::function<void(GgufBuilder*)>> stages[] = {
      {"version", [](GgufBuilder* file) { file->version = 9; }},
      {"tensor_count", [](GgufBuilder* file) { file->tensor_count_error = 1 << 20; }},
      {"bool", [](GgufBuilder* file) { file->SetRaw("zz.flag", 7, "\7"); }},
      {"duplicate", [](GgufBuilder* file) { file->Append("general.name", 0, "x"); }},
      {"general.alignment", [](GgufBuilder* file) { file->Set("general.alignment", uint32_t{3}); }},
      {"type of tensor", [](GgufBuilder* file) { file->tensor("blk.1.ffn_down.weight").type = 77; }},
      {"tensor name", [](GgufBuilder* file) { file->AddF32("output_norm.weight", {1}, {1.0f}); }},
      {"past the end", [](GgufBuilder* file) { file->tensor("blk.1.ffn_down.weight").offset_error = 4096; }},
      {"overlaps", [](GgufBuilder* file) { file->tensor("blk.1.ffn_down.weight").offset_error = -32; }},
      {"general.architecture", [](GgufBuilder* file) { file->Remove("general.architecture"); }},
      {"block_count", [](GgufBuilder* file) { file->Remove("llama.block_count"); }},
      {"is missing", [](GgufBuilder* file) { file->RemoveTensor("blk.1.ffn_down.weight"); }},
      {"tokens", [](GgufBuilder* file) { file->Set("tokenizer.ggml.tokens", std::vector<std::string>{"a"}); }},
      {"merges", [](GgufBuilder* file) { file->Set("tokenizer.ggml.merges", std::vector<std::string>{"a a"}); }},
      {"bos", [](GgufBuilder* file) { file->Set("tokenizer.ggml.bos_token_id", uint32_t{9}); }},
  };
  const int descriptors = OpenDescriptors();
  for (const auto& [reason, break_it] : stages) {
    GgufBuilder file = TinyGguf("llama");
    break_it(&file);
    EXPECT_THAT(Load(file.Build()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(reason)));
    EXPECT_FALSE(IsMapped(path_)) << reason;
  }
  EXPECT_EQ(OpenDescriptors(), descriptors);
  EXPECT_THAT(Load(TinyGguf("llama").Build()), IsOk());  // and the next load works
}

TEST_F(ModelLoad, WhatIsNoFileIsRefused) {
  EXPECT_THAT(OpenModelFile(path_), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path_)));
  ASSERT_TRUE(std::filesystem::create_directory(path_));  // a folder without a checkpoint
  EXPECT_THAT(OpenModelFile(path_), StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);  // must not wait for a writer
  EXPECT_THAT(OpenModelFile(path_), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not a regular file")));
}

}  // namespace
}  // namespace nibble::engine
