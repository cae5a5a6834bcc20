#include "engine/tools/inspect.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "engine/weights/quantized_file.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/hf_folder.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class InspectTest : public testing::Test {
 protected:
  InspectTest() : path_(testing::TempDir() + "inspect_" + std::to_string(getpid()) + ".gguf") {}
  ~InspectTest() override { std::filesystem::remove(path_); }

  absl::Status Run(const GgufBuilder& file) {
    std::ofstream(path_, std::ios::binary) << file.Build();
    out_.str("");
    return Inspect(path_, out_);
  }

  const std::string path_;
  std::ostringstream out_;
};

TEST_F(InspectTest, TellsAllOfARightFile) {
  GgufBuilder file = TinyGguf("gemma3");
  file.Set("gemma3.final_logit_softcapping", 30.0f).Set("gemma3.attn_logit_softcapping", 50.0f);
  file.Set("gemma3.rope.scaling.type", "linear").Set("gemma3.rope.scaling.factor", 8.0f);
  ASSERT_THAT(Run(file), IsOk());
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("GGUF version 3"), ContainsRegex("f32 +28 of"), Not(HasSubstr("q4_0"))));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("gemma3"), HasSubstr("2 of width 8, inner 12"), HasSubstr("6, tied head")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("linear factor 8"), HasSubstr("global every 6 layers")));
  EXPECT_THAT(out_.str(),
              AllOf(ContainsRegex("final_logit_softcap +30"), ContainsRegex("attention_logit_softcap +50")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("SentencePiece"), HasSubstr("bos 2 \"<bos>\", eos 1 \"<eos>\"")));
  EXPECT_THAT(out_.str(), ContainsRegex("weights_sha256 +[0-9a-f]{64}"));
}

TEST_F(InspectTest, TellsTheChoicesOfAQuantizedFile) {
  const std::string gguf = TinyGguf("llama").Build();
  const ModelFile model = *ParseModelFile(AsBytes(gguf), nullptr);
  const auto tensors = model.weights->tensors();
  std::ofstream(path_, std::ios::binary) << SerializeQuantized(
      {{{"rounding", "gptq"}}, AsBytes(gguf), {tensors.begin(), tensors.end()}, {}});
  ASSERT_THAT(Inspect(path_, out_), IsOk());
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("nibble-quantized"), ContainsRegex("\"rounding\" +\"gptq\"")));
  EXPECT_THAT(out_.str(), AllOf(ContainsRegex("f32 +20 of"), HasSubstr("6, tied head"), Not(HasSubstr("encoding."))));
}

TEST_F(InspectTest, TellsOfLlamaFiles) {
  GgufBuilder file = TinyGguf("llama");
  file.AddF32("rope_freqs.weight", {2}, std::vector<float>{1, 2})
      .AddF32("output.weight", {6, 8}, std::vector<float>(48));
  file.Remove("tokenizer.ggml.bos_token_id").Remove("tokenizer.ggml.eos_token_id");
  file.Set("general.name", "\x1b[2Jname");
  ASSERT_THAT(Run(file), IsOk());
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("frequency factors"), HasSubstr("interleaved"), HasSubstr("own head")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("byte-level BPE \"smollm\", 6 tokens, 1 merges"), HasSubstr("none")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("\"\\x1b[2Jname\""), Not(HasSubstr("\x1b"))));
}

TEST_F(InspectTest, TellsOfFolders) {
  const std::string bytes = TinyGguf("qwen3").Build();
  const WrittenFolder folder(HfFolderFrom(*GgufFile::Parse(AsBytes(bytes))), "inspect");
  ASSERT_THAT(Inspect(folder.path(), out_), IsOk());
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("Hugging Face folder"), ContainsRegex("f32 +24 of"), HasSubstr("qwen3")));
  EXPECT_THAT(out_.str(), AllOf(HasSubstr("2 of width 8, inner 12"), HasSubstr("6 tokens, 1 merges")));
  folder.Write("config.json", "{}");
  EXPECT_THAT(Inspect(folder.path(), out_), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("model_type")));
}

TEST_F(InspectTest, TellsTheContainerOfAModelThatIsNotSupported) {
  EXPECT_THAT(Run(TinyGguf("qwen2").Set("general.architecture", "mamba")),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("mamba")));
  EXPECT_THAT(out_.str(), HasSubstr("GGUF version 3"));
  EXPECT_THAT(Inspect(path_ + ".none", out_), StatusIs(absl::StatusCode::kNotFound, HasSubstr(".none")));
}

}  // namespace
}  // namespace nibble::engine
