// The `.nibblekv` file: what comes back, and what is refused.
#include "engine/quant/calibration/calibration_file.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "engine/weights/safetensors.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/quant/calibration/tiny_calibration.h"
#include "tests/engine/weights/gguf_builder.h"
#include "tests/engine/weights/largest_allocation.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

void ExpectRefused(const std::string& bytes, const std::string& field, const std::string& what) {
  EXPECT_THAT(ParseCalibration(AsBytes(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(field), ContainsRegex("at byte [0-9]+: "),
                                                                    HasSubstr(what), Not(HasSubstr("\n")))));
}

// A right file with one thing changed. Tensors that `change` adds or resizes point into static memory.
struct Parts {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsTensor> tensors;

  SafetensorsTensor& tensor(const std::string& name) {
    for (SafetensorsTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return tensors[0];
  }
};

std::string Changed(const std::function<void(Parts& parts)>& change) {
  const std::string bytes = SerializeCalibration(TinyCalibrationFile());
  const auto file = SafetensorsFile::Parse(AsBytes(bytes));
  EXPECT_THAT(file, IsOk());
  Parts parts = {file->metadata(), {file->tensors().begin(), file->tensors().end()}};
  change(parts);
  return SerializeSafetensors(parts.metadata, parts.tensors);
}

void ExpectSame(const kv::HeadCode& a, const kv::HeadCode& b) {
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.analysis, b.analysis);
  EXPECT_EQ(a.synthesis, b.synthesis);
  EXPECT_EQ(a.group_ends, b.group_ends);
  EXPECT_EQ(a.centroid_scale, b.centroid_scale);
  EXPECT_EQ(a.centroids, b.centroids);
}

void ExpectSame(const kv::Calibration& a, const kv::Calibration& b) {
  EXPECT_EQ(a.codec, b.codec);
  EXPECT_EQ(a.entries, b.entries);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t layer = 0; layer < a.layers.size(); ++layer) {
    ASSERT_EQ(a.layers[layer].keys.size(), b.layers[layer].keys.size());
    ASSERT_EQ(a.layers[layer].values.size(), b.layers[layer].values.size());
    for (size_t head = 0; head < a.layers[layer].keys.size(); ++head) {
      ExpectSame(a.layers[layer].keys[head], b.layers[layer].keys[head]);
      ExpectSame(a.layers[layer].values[head], b.layers[layer].values[head]);
    }
  }
}

TEST(CalibrationFile, ReadsWhatWasWritten) {
  const CalibrationFile file = TinyCalibrationFile();
  const std::string bytes = SerializeCalibration(file);
  const auto read = ParseCalibration(AsBytes(bytes));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->provenance.model_sha256, file.provenance.model_sha256);
  EXPECT_EQ(read->provenance.text_sha256, file.provenance.text_sha256);
  EXPECT_EQ(read->provenance.method, file.provenance.method);
  EXPECT_EQ(read->provenance.seed, file.provenance.seed);
  EXPECT_EQ(read->provenance.tokens, file.provenance.tokens);
  ASSERT_EQ(read->codecs.size(), 2u);
  ExpectSame(read->codecs[0], file.codecs[0]);
  ExpectSame(read->codecs[1], file.codecs[1]);
  EXPECT_EQ(SerializeCalibration(*read), bytes);
}

// As files were before codebooks were mirrored.
TEST(CalibrationFile, ReadsATransformedCodecOf256Centroids) {
  CalibrationFile file = TinyCalibrationFile();
  file.codecs = {TinyCalibration("cq2", 2, 2)};
  file.codecs[0].codec = "klt2";
  const std::string bytes = SerializeCalibration(file);
  const auto read = ParseCalibration(AsBytes(bytes));
  ASSERT_THAT(read, IsOk());
  ASSERT_EQ(read->codecs.size(), 1u);
  EXPECT_EQ(read->codecs[0].entries, kv::kCentroids);
  ExpectSame(read->codecs[0], file.codecs[0]);
}

TEST(CalibrationFile, EveryTruncationIsRefused) {
  CalibrationFile file = TinyCalibrationFile();
  file.codecs.erase(file.codecs.begin());
  const std::string bytes = SerializeCalibration(file);
  for (size_t size = 0; size < bytes.size(); ++size) ExpectRefused(bytes.substr(0, size), "", "");
}

TEST(CalibrationFile, RefusesAnotherFormatOrVersion) {
  ExpectRefused(Changed([](Parts& p) { p.metadata["format"] = "pt"; }), "metadata \"format\"", "is \"pt\"");
  ExpectRefused(Changed([](Parts& p) { p.metadata.erase("format"); }), "metadata \"format\"", "is missing");
  ExpectRefused(Changed([](Parts& p) { p.metadata["format_version"] = "2"; }), "metadata \"format_version\"",
                "is \"2\", not \"1\"");
  ExpectRefused(GgufBuilder().Build(), "magic", "GGUF");
}

TEST(CalibrationFile, RefusesAWrongProvenance) {
  for (const char* key : {"model_sha256", "text_sha256", "method", "seed", "tokens", "codecs"}) {
    const std::string field = "metadata \"" + std::string(key) + "\"";
    ExpectRefused(Changed([key](Parts& p) { p.metadata.erase(key); }), field, "is missing");
    ExpectRefused(Changed([key](Parts& p) { p.metadata[key] = ""; }), field, "is not 1 to");
    ExpectRefused(Changed([key](Parts& p) { p.metadata[key] = std::string(300, '1'); }), field, "is not 1 to");
  }
  for (const std::string& hash : {std::string(63, 'a'), std::string(64, 'A'), std::string(64, 'g')}) {
    ExpectRefused(Changed([&](Parts& p) { p.metadata["model_sha256"] = hash; }), "model_sha256", "is not 64");
  }
  for (const char* number : {"-1", "1.0", " 1", "01", "18446744073709551616", "x"}) {
    ExpectRefused(Changed([&](Parts& p) { p.metadata["seed"] = number; }), "metadata \"seed\"",
                  "is not a whole number");
  }
}

TEST(CalibrationFile, RefusesWrongCodecNames) {
  for (const char* names : {"klt2,", ",klt2", "klt2,Cq1", "klt2,../x", "klt2,abcdefghijklmnopq"}) {
    ExpectRefused(Changed([&](Parts& p) { p.metadata["codecs"] = names; }), "codecs", "is not a codec's name");
  }
  ExpectRefused(Changed([](Parts& p) { p.metadata["codecs"] = "klt2,cq1,klt2"; }), "codecs", "is a duplicate");
  ExpectRefused(Changed([](Parts& p) { p.metadata["codecs"] = "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"; }), "codecs",
                "lists more than 16");
  ExpectRefused(Changed([](Parts& p) { p.metadata["codecs"] = "klt2,cq2"; }), "tensor \"cq2.mean\"", "is missing");
  ExpectRefused(Changed([](Parts& p) { p.metadata["codecs"] = "klt2"; }), "tensors", "there are 16");
}

TEST(CalibrationFile, RefusesWrongTensors) {
  for (const char* name :
       {"mean", "coefficients", "groups", "group_ends", "analysis", "synthesis", "centroid_scale", "centroids"}) {
    const std::string full = "klt2." + std::string(name), field = "tensor \"" + full + "\"";
    ExpectRefused(Changed([&](Parts& p) { p.tensor(full).name = "other"; }), field, "is missing");
    ExpectRefused(Changed([&](Parts& p) {
                    p.tensor(full).type = SafetensorsType::kU8;
                    p.tensor(full).shape = {static_cast<int64_t>(p.tensor(full).data.size())};
                  }),
                  field, "has ");
    ExpectRefused(Changed([&](Parts& p) { p.tensor(full).shape.push_back(1); }), field, "has shape [");
  }
  ExpectRefused(
      Changed([](Parts& p) { p.tensor("klt2.centroids").shape[0] *= 2, p.tensor("klt2.centroids").shape[1] /= 2; }),
      "tensor \"klt2.centroids\"", "not [all coefficients, 256 or 64]");
  ExpectRefused(Changed([](Parts& p) {
                  p.tensors.push_back({"klt2.more", SafetensorsType::kU8, {0}, {}});
                }),
                "tensors", "there are 17, the codecs have 16");
}

// Nothing is allocated for layers of no heads.
TEST(CalibrationFile, RefusesEmptyDimensions) {
  constexpr int64_t kHuge = int64_t{1} << 60;
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{kHuge, 2, 0, 4}, {kHuge, 0, 1, 4}, {0, 2, kHuge, 4}, {kHuge, 2, 1, 0}, {0}, {}}) {
    const std::string bytes = Changed([&](Parts& p) {
      static constexpr std::byte kZeros[4] = {};
      p.tensor("klt2.mean").shape = shape;
      p.tensor("klt2.mean").data = absl::MakeConstSpan(kZeros).first(shape.empty() ? 4 : 0);
    });
    largest_allocation_bytes = 0;
    const bool parsed = ParseCalibration(AsBytes(bytes)).ok();
    EXPECT_LE(largest_allocation_bytes, 16u << 10);
    EXPECT_FALSE(parsed);
    ExpectRefused(bytes, "tensor \"klt2.mean\"", "not [layers, 2, heads, head_dim]");
  }
}

TEST(CalibrationFile, RefusesFlippedCounts) {
  for (const std::string name : {"klt2.coefficients", "klt2.groups"}) {
    for (const int32_t count : {-1, 0, 100, 0x7fffffff, static_cast<int32_t>(0x80000000)}) {
      std::vector<int32_t> counts(8);
      const std::string bytes = Changed([&](Parts& p) {
        std::memcpy(counts.data(), p.tensor(name).data.data(), 32);
        counts[5] = count;
        p.tensor(name).data = {reinterpret_cast<const std::byte*>(counts.data()), 32};
      });
      ExpectRefused(bytes, "tensor \"klt2.", count < 0 ? "holds -" : "has shape [");
    }
  }
}

class LoadedCalibration : public testing::Test {
 protected:
  LoadedCalibration() : path_(testing::TempDir() + "calibration_" + std::to_string(getpid()) + ".nibblekv") {
    std::ofstream(path_, std::ios::binary) << SerializeCalibration(TinyCalibrationFile());
  }
  ~LoadedCalibration() override { std::filesystem::remove(path_); }

  const std::string path_;
  const std::string model_ = std::string(64, 'a');
};

TEST_F(LoadedCalibration, IsOneOfTheCodecs) {
  for (const kv::Calibration& codec : TinyCalibrationFile().codecs) {
    const auto loaded = LoadCalibration(path_, codec.codec, model_);
    ASSERT_THAT(loaded, IsOk());
    ExpectSame(**loaded, codec);
  }
}

TEST_F(LoadedCalibration, Row61_StaysWhatItWasWhenRead) {
  const auto loaded = LoadCalibration(path_, "klt2", model_);
  ASSERT_THAT(loaded, IsOk());
  std::filesystem::resize_file(path_, 10);
  ExpectSame(**loaded, TinyCalibrationFile().codecs[0]);
  EXPECT_THAT(LoadCalibration(path_, "klt2", model_),
              StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(path_), HasSubstr("header length"))));
}

TEST_F(LoadedCalibration, RefusesAnotherModel) {
  EXPECT_THAT(LoadCalibration(path_, "klt2", std::string(64, 'b')),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(path_), HasSubstr("aaaaaaaaaaaa…"), HasSubstr("bbbbbbbbbbbb…"),
                             HasSubstr("nibble calibrate"), Not(HasSubstr("\n")))));
}

TEST_F(LoadedCalibration, RefusesACodecThatItDoesNotHave) {
  EXPECT_THAT(LoadCalibration(path_, "klt3", model_),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(path_), HasSubstr("klt3, only for klt2, cq1"), HasSubstr("nibble calibrate"))));
}

TEST_F(LoadedCalibration, RefusesAFileThatIsNotThere) {
  EXPECT_THAT(LoadCalibration(path_ + "x", "klt2", model_), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path_)));
}

}  // namespace
}  // namespace nibble::engine
