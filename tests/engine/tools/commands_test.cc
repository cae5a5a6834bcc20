// The offline commands as the shell sees them: words in, text and an exit status out.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/engine/tools/run_nibble.h"
#include "tests/engine/tools/tiny_model.h"
#include "tests/engine/weights/gguf_builder.h"
#include "tests/engine/weights/hf_folder.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// Of this process alone: ctest runs the tests of this file side by side.
std::string TemporaryPath(std::string_view extension) {
  return testing::TempDir() + "commands_" + std::to_string(getpid()) + std::string(extension);
}

class TemporaryText {
 public:
  explicit TemporaryText(const std::string& text) : path_(TemporaryPath(".txt")) { std::ofstream(path_) << text; }
  ~TemporaryText() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

std::string FileBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string kModel = TinyModelPath("tiny-llama-quantized");

TEST(Commands, EveryCommandHelpsWithItsOwnFlags) {
  for (const Command& command : OfflineCommands()) {
    const Outcome help = RunNibble({std::string(command.name), "--help"});
    EXPECT_EQ(help.status, 0);
    for (const std::string_view flag : command.flags) EXPECT_THAT(help.out, HasSubstr("  --" + std::string(flag)));
  }
  EXPECT_THAT(RunNibble({"tokenize", "--help"}).out, Not(HasSubstr("--decode")));
}

TEST(Commands, WrongUsageExitsWithTwoAndOneLine) {
  const std::vector<std::vector<std::string>> wrong = {
      {"eval"},
      {"eval", "--model", kModel},
      {"eval", "--model", kModel, "--text", "/nonexistent/text"},
      {"eval", "--model", "/nonexistent/model", "--text", kModel},
      {"eval", "--model", kModel, "--text", kModel, "--score=first-half"},
      {"eval", "--model", kModel, "--text", kModel, "--weights=f32", "--activations=a8"},
      {"eval", "--model", kModel, "--text", kModel, "--json=/nonexistent/out.json"},
      {"eval", "--model", kModel, "--text", kModel, "--context=100000"},
      {"eval", "--model", kModel, "--text", kModel, "--prefill=1"},
      {"eval", "--model", kModel, "--text", kModel, "--base=/nonexistent/model"},
      {"eval", "--model", kModel, "--text", kModel, "--base", TinyModelPath("tiny-gemma3-q8_0")},
      {"eval", "--model", kModel, "--text", kModel, "--base", kModel, "--retrieval=128"},
      {"eval", "extra"},
      {"generate", "--model", kModel},
      {"generate", "--model", kModel, "--prompt=a", "--prompt-file=b"},
      {"generate", "--model", kModel, "--prompt=a", "--chat"},  // no template in the file
      {"generate", "--model", kModel, "--prompt=a", "--max-tokens=0"},
      {"generate", "--model", kModel, "--prompt=a", "--temperature=-1"},
      {"generate", "--model", kModel, "--prompt=a", "--weights=w8,f32"},
      {"generate", "--model", kModel, "--prompt=a", "--threads=-1"},
      {"calibrate", "--model", kModel, "--text", kModel},
      {"calibrate", "--model", kModel, "--text", kModel, "--out=/nonexistent/out.nibblekv"},
      {"calibrate", "--model", kModel, "--text", kModel, "--out=x", "--kv=kivi2"},
      {"calibrate", "--model", kModel, "--text", kModel, "--out=x", "--chunks=0"},
      {"calibrate", "--model", kModel, "--text", kModel, "--out=x", "--context=64"},
      {"quantize", "--model", kModel, "--out=x"},
      {"quantize", "--model", kModel, "--weights=w4", "--activations=a4"},
      {"quantize", "--model", kModel, "--weights=w4,w8", "--activations=a4", "--out=x"},
      {"quantize", "--model", kModel, "--weights=w4", "--activations=f32", "--out=x"},
      {"quantize", "--model", kModel, "--weights=w4", "--activations=a4", "--out=/nonexistent/out"},
      {"quantize", "--model", kModel, "--weights=w4", "--activations=a4", "--out=x", "--calibration-text=/nonexistent"},
      {"quantize", "--model", kModel, "--weights=w4", "--activations=a4", "--out=x", "--chunks=0"},
      {"tokenize", "--model", kModel},
      {"bench", "--model", kModel, "--batch=0"},
      {"bench", "--model", kModel, "--depth=6144"},
      {"bench", "--model", kModel, "--depth=0", "--prefill=0", "--decode=0"},
      {"delta"},
      {"delta", "merge"},
      {"delta", "compress", "--base", kModel, "--tuned", kModel},
      {"delta", "compress", "--base", kModel, "--out=x"},
      {"delta", "compress", "--base", kModel, "--tuned", "/nonexistent/model", "--out=x"},
      {"delta", "compress", "--base", kModel, "--tuned", kModel, "--out=/nonexistent/x"},
      {"delta", "compress", "--base", kModel, "--tuned", kModel, "--out=x", "--planes=3"},
      {"delta", "compress", "--base", kModel, "--tuned", kModel, "--out=x", "--scales=column"},
      {"delta", "verify", "--base", kModel},
      {"delta", "verify", "--base", kModel, "--adapter=/nonexistent/x"},
      {"delta", "verify", "--base", kModel, "--adapter", kModel, "--text", kModel},
      {"inspect"},
      {"inspect", "/nonexistent/model"},
  };
  for (const auto& words : wrong) {
    const Outcome outcome = RunNibble(words);
    EXPECT_EQ(outcome.status, 2) << testing::PrintToString(words) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "") << testing::PrintToString(words);
  }
}

TEST(Commands, ADamagedModelIsAFailureNotWrongUsage) {
  const TemporaryText text("this is no model");
  const Outcome outcome = RunNibble({"tokenize", "--model", text.path(), "--text=a"});
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
}

TEST(Commands, TokenizePrintsIdsOrJson) {
  const Outcome ids = RunNibble({"tokenize", "--model", kModel, "--text", "the"});
  const Outcome json = RunNibble({"tokenize", "--model", kModel, "--text", "the", "--json", "-"});
  EXPECT_EQ(ids.status, 0) << ids.err;
  const std::vector<int32_t> parsed = nlohmann::json::parse(json.out)["ids"];
  EXPECT_EQ(parsed, OpenTinyModel("tiny-llama-quantized").tokenizer->Encode("the", {}));
  std::istringstream words(ids.out);
  for (const int32_t expected : parsed) {
    int32_t id = -1;
    words >> id;
    EXPECT_EQ(id, expected);
  }
}

TEST(Commands, GenerateStreamsTheTextThatItsJsonHolds) {
  const std::vector<std::string> words = {"generate", "--model", kModel, "--prompt", "the and", "--max-tokens", "9"};
  std::vector<std::string> with_json = words;
  with_json.push_back("--json=-");
  const Outcome streamed = RunNibble(words), json = RunNibble(with_json);
  EXPECT_EQ(streamed.status, 0) << streamed.err;
  EXPECT_EQ(json.status, 0) << json.err;
  EXPECT_EQ(streamed.out, nlohmann::json::parse(json.out)["text"].get<std::string>() + "\n");
}

TEST(Commands, EvalPrintsARowPerMode) {
  std::string words;
  for (int i = 0; i < 200; ++i) words += "the and of " + std::to_string(i) + " ";
  const TemporaryText text(words);
  const Outcome outcome = RunNibble({"eval", "--model", kModel, "--text", text.path(), "--context=64", "--chunks=2",
                                     "--weights=file,f32", "--json", "-"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_EQ(json["rows"][1]["weights"], "f32");
  EXPECT_EQ(json["rows"][1]["kld"], 0.0);
  EXPECT_EQ(json["rows"][0]["tokens"], 2 * 31);
}

TEST(Commands, WhatCalibrateWritesServesEvalAndInspect) {
  std::string words;
  for (int i = 0; i < 400; ++i) words += std::to_string(i * i % 97) + (i % 9 == 0 ? " and\n" : " ");
  const TemporaryText text(words);
  const std::string out = TemporaryPath(".nibblekv");
  const Outcome made = RunNibble({"calibrate", "--model", kModel, "--text", text.path(), "--kv=klt2,cq1",
                                  "--context=256", "--seed=3", "--out", out});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(made.out, AllOf(HasSubstr("klt2"), HasSubstr("cq1")));
  EXPECT_FALSE(std::ifstream(out + ".partial").good());
  const Outcome told = RunNibble({"inspect", out});
  EXPECT_THAT(told.out, AllOf(HasSubstr("klt2"), HasSubstr("cq1"), HasSubstr("seed")));
  const Outcome scored = RunNibble(
      {"eval", "--model", kModel, "--text", text.path(), "--context=256", "--kv=klt2,cq1", "--kv-calibration", out});
  EXPECT_EQ(scored.status, 0) << scored.err;
  std::remove(out.c_str());
}

// A tiny model and the same with some weights moved.
TEST(Commands, ADeltaIsMadeVerifiedAndInspected) {
  const std::string bytes = FileBytes(TinyModelPath("tiny-llama-f32"));
  HfFolder folder = HfFolderFrom(*GgufFile::Parse(AsBytes(bytes)));
  const WrittenFolder base(folder, "delta_base");
  for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    SafetensorsTensor& tensor = folder.tensor(name);
    std::vector<float> values(tensor.data.size() / sizeof(float));
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] += i % 3 == 0 ? -0.03f : 0.03f;
    folder.data.emplace_back(reinterpret_cast<const char*>(values.data()), tensor.data.size());
    tensor.data = AsBytes(folder.data.back());
  }
  const WrittenFolder tuned(folder, "delta_tuned");
  tuned.Write("LICENSE", "free");
  const std::string out = testing::TempDir() + "delta_" + std::to_string(getpid()) + ".safetensors";
  const Outcome made = RunNibble({"delta", "compress", "--base", base.path(), "--tuned", tuned.path(), "--out", out});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(made.out, AllOf(ContainsRegex("ffn_up.weight +1 "), ContainsRegex("output_norm.weight +1 ")));
  const Outcome inspected = RunNibble({"inspect", out});
  EXPECT_THAT(inspected.out,
              AllOf(HasSubstr("delta of a fine-tune"), HasSubstr("1 projections"), HasSubstr("4 bytes")));
  // Moves of one size are what a sign says: nothing is left but the norm's rounding.
  const std::string text = base.path() + "/tokenizer.json";
  const Outcome verified = RunNibble({"delta", "verify", "--base", base.path(), "--tuned", tuned.path(), "--adapter",
                                      out, "--text", text, "--context=128", "--chunks=2"});
  EXPECT_EQ(verified.status, 0) << verified.err;
  EXPECT_THAT(verified.out, AllOf(ContainsRegex("ffn_up.weight .* 0.0%"), HasSubstr("KL to the fine-tune 0.0000")));
  EXPECT_THAT(verified.out, HasSubstr("same top token 1.0000"));
  const Outcome other = RunNibble({"delta", "verify", "--base", tuned.path(), "--adapter", out});
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(other.err, HasSubstr("base_sha256"));
  std::filesystem::remove(out);
}

TEST(Commands, InspectDescribesTheFile) {
  const Outcome outcome = RunNibble({"inspect", kModel});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("llama"), HasSubstr("q4_1")));
}

}  // namespace
}  // namespace nibble::engine
