// The offline commands as the shell sees them: words in, text and an exit status out.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/engine/tools/run_nibble.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
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
      {"tokenize", "--model", kModel},
      {"bench", "--model", kModel, "--batch=0"},
      {"bench", "--model", kModel, "--depth=6144"},
      {"bench", "--model", kModel, "--depth=0", "--prefill=0", "--decode=0"},
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

TEST(Commands, InspectDescribesTheFile) {
  const Outcome outcome = RunNibble({"inspect", kModel});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("llama"), HasSubstr("q4_1")));
}

}  // namespace
}  // namespace nibble::engine
