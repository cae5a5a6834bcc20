// --kv-calibration as the shell sees it.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/models/kv_codec_model.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/weights/fingerprint.h"
#include "tests/engine/tools/run_nibble.h"
#include "tests/engine/tools/tiny_model.h"
#include "tests/law1/random_calibration.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

const std::string kModel = TinyModelPath("tiny-llama-quantized");

class Calibrated : public testing::Test {
 protected:
  Calibrated() : path_(testing::TempDir() + "calibrated_" + std::to_string(getpid())), file_(path_ + ".nibblekv") {
    const OpenedModel model = OpenTinyModel("tiny-llama-quantized");
    CalibrationFile file;
    file.provenance = {ModelSha256(*model.file.weights), std::string(64, '0'), "random\n", 7, 1000};
    for (const char* codec : {"klt2", "cq1"}) {
      file.codecs.push_back(*RandomCalibration(codec, CodecModelOf(model.file.config)));
    }
    Write(file_, SerializeCalibration(file));
    std::string words;
    for (int i = 0; i < 200; ++i) words += "the and of " + std::to_string(i) + " ";
    Write(path_ + ".txt", words);
  }
  ~Calibrated() override {
    std::filesystem::remove(file_);
    std::filesystem::remove(path_ + ".txt");
  }

  static void Write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  Outcome Eval(const std::string& codecs, const std::string& calibration, const std::string& model = kModel) const {
    return RunNibble({"eval", "--model", model, "--text", path_ + ".txt", "--context=128", "--chunks=1", "--kv", codecs,
                      "--kv-calibration", calibration, "--json=-"});
  }

  static void ExpectFailure(const Outcome& outcome, int status, const std::string& reason) {
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(reason));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }

  const std::string path_, file_;
};

TEST_F(Calibrated, EvalGivesEachCodecItsOwn) {
  const Outcome outcome = Eval("f16,klt2,cq1", file_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto rows = nlohmann::json::parse(outcome.out)["rows"];
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1]["kv"], "klt2");
  EXPECT_EQ(rows[1]["kv_bits"], 2.0);
  EXPECT_EQ(rows[2]["kv_bits"], 1.0);
  EXPECT_NE(rows[1]["logits_sha256"], rows[2]["logits_sha256"]);
}

TEST_F(Calibrated, GenerateAndBenchTakeOne) {
  const std::vector<std::string> model = {"--model", kModel, "--kv=klt2", "--kv-calibration", file_, "--json=-"};
  for (std::vector<std::string> words :
       {std::vector<std::string>{"generate", "--prompt=the and of", "--max-tokens=3"},
        {"bench", "--prefill=64", "--decode=2", "--batch=1", "--depth=64", "--repeat=1"}}) {
    words.insert(words.end(), model.begin(), model.end());
    EXPECT_EQ(RunNibble(words).status, 0) << words[0];
  }
}

TEST_F(Calibrated, ACodecWithoutOneNamesTheCommand) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"eval", "--text", kModel}, {"generate", "--prompt=a"}, {"bench"}}) {
    std::vector<std::string> all = words;
    for (const char* word : {"--model", kModel.c_str(), "--kv=klt2"}) all.push_back(word);
    ExpectFailure(RunNibble(all), 2, "--kv-calibration: the codec klt2 needs one; make it with `nibble calibrate`");
  }
}

TEST_F(Calibrated, AFileThatCannotServeIsRefused) {
  ExpectFailure(Eval("klt2", "/nonexistent.nibblekv"), 2, "/nonexistent.nibblekv");
  ExpectFailure(Eval("klt2", path_ + ".txt"), 1, path_ + ".txt: header length");
  ExpectFailure(Eval("klt2,klt3", file_), 1, "has no calibration for klt3, only for klt2, cq1");
  ExpectFailure(Eval("klt2", file_, TinyModelPath("tiny-qwen3-f16")), 1, "was made from the model");
  // Also where nothing needs it.
  ExpectFailure(Eval("f16", "/nonexistent.nibblekv"), 2, "/nonexistent.nibblekv");
  ExpectFailure(Eval("f16", file_, TinyModelPath("tiny-qwen3-f16")), 1, "was made from the model");
}

TEST_F(Calibrated, InspectTellsWhatItIsFor) {
  const Outcome outcome = RunNibble({"inspect", file_});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("KV calibration"), ContainsRegex("method +\"random\\\\n\""),
                                 ContainsRegex("seed +7\n"), ContainsRegex("tokens +1000\n")));
  EXPECT_THAT(outcome.out, AllOf(ContainsRegex("codec klt2 +[0-9]+ layers of [0-9]+ heads of length"),
                                 ContainsRegex("all layers +2.00 bits of keys, 2.00 of values"),
                                 ContainsRegex("layer 0 +1.00 bits of keys, 1.00 of values")));
  Write(file_, "12345678{}");
  ExpectFailure(RunNibble({"inspect", file_}), 1, "header length");
}

}  // namespace
}  // namespace nibble::engine
