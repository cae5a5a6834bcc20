// Calibrations of tiny models, end to end.
#include "engine/tools/calibrate.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "engine/tools/solo_sequence.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

void NoProgress(const std::string&, int64_t, int64_t) {}

// --threads and NIBBLE_ISA for as long as it lives.
class Setting {
 public:
  Setting(int threads, simd::Isa isa) {
    absl::SetFlag(&FLAGS_threads, threads);
    if (const char* before = std::getenv("NIBBLE_ISA")) before_ = before;
    setenv("NIBBLE_ISA", std::string(simd::Name(isa)).c_str(), 1);
  }
  ~Setting() { before_.has_value() ? setenv("NIBBLE_ISA", before_->c_str(), 1) : unsetenv("NIBBLE_ISA"); }

 private:
  const absl::FlagSaver saver_;
  std::optional<std::string> before_;
};

CalibrateOptions Options(std::vector<std::string> designs) {
  CalibrateOptions options;
  options.chunks = {300, 2};  // the last page is short
  options.sample_bytes = 1 << 18;
  options.seed = 1;
  for (const std::string& name : designs) options.designs.push_back(FindCodecDesign(name));
  return options;
}

std::vector<DesignedCodec> CalibrateTiny(const OpenedModel& model, const CalibrateOptions& options) {
  absl::StatusOr<Calibrated> calibrated = Calibrate(model, SomeIds(700), options, NoProgress);
  EXPECT_THAT(calibrated, IsOk());
  EXPECT_EQ(calibrated->tokens, options.chunks.most * options.chunks.context);
  return std::move(calibrated->codecs);
}

// All numbers, one after another.
std::string BytesOf(const kv::Calibration& calibration) {
  std::string bytes = calibration.codec;
  const auto add = [&](const auto& numbers) {
    bytes.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(numbers[0]));
  };
  for (const kv::LayerCode& layer : calibration.layers) {
    for (const auto* side : {&layer.keys, &layer.values}) {
      for (const kv::HeadCode& code : *side) {
        add(code.mean);
        add(code.analysis);
        add(code.synthesis);
        add(code.group_ends);
        add(code.centroid_scale);
        add(code.centroids);
      }
    }
  }
  return bytes;
}

class CalibrateTinyModels : public testing::TestWithParam<const char*> {};

// klt1 and cq1 have the fewest codebooks.
std::vector<std::string> BytesWith(const OpenedModel& model, int threads, simd::Isa isa, uint64_t seed) {
  const Setting setting(threads, isa);
  CalibrateOptions options = Options({"klt1", "cq1"});
  options.chunks.most = 1;
  options.seed = seed;
  std::vector<std::string> bytes;
  for (const DesignedCodec& codec : CalibrateTiny(model, options)) bytes.push_back(BytesOf(codec.calibration));
  return bytes;
}

TEST_P(CalibrateTinyModels, ThreadsDoNotShow) {
  const OpenedModel model = OpenTinyModel(GetParam());
  const simd::Isa best = simd::SupportedIsas().back();
  EXPECT_TRUE(BytesWith(model, 1, best, 1) == BytesWith(model, 2, best, 1));
}

// The scalar one is slow at codebooks; the smallest model has to do.
TEST(Calibrate, ThreadsAndInstructionSetsDoNotShow) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const simd::Isa best = simd::SupportedIsas().back();
  const std::vector<std::string> want = BytesWith(model, 1, best, 1);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    EXPECT_TRUE(BytesWith(model, 2, isa, 1) == want) << simd::Name(isa);
  }
  const std::vector<std::string> other = BytesWith(model, 1, best, 2);
  EXPECT_NE(other[0], want[0]);
  EXPECT_NE(other[1], want[1]);
}

std::vector<float> LastLogits(const OpenedModel& model, const std::string& codec,
                              std::shared_ptr<const kv::Calibration> calibration) {
  EngineOptions options = *OptionsFor(ReferenceMode());
  options.kv_codec = codec;
  options.calibration = std::move(calibration);
  const auto engine = EngineWithPages(options, model, kv::PagesFor(400));
  EXPECT_THAT(engine, IsOk());
  SoloSequence sequence(**engine, 400);
  std::vector<float> logits(static_cast<size_t>(100 * (*engine)->vocab_size()));
  const std::vector<int32_t> ids = SomeIds(400);
  sequence.Append(absl::MakeConstSpan(ids).first(300), nullptr);
  EXPECT_TRUE(sequence.AppendForLogits(absl::MakeConstSpan(ids).last(100), 100, logits.data()));
  return logits;
}

double SquaredDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

TEST_P(CalibrateTinyModels, WhatTheyMakeRunsInAnEngine) {
  const Setting setting(2, simd::SupportedIsas().back());
  const OpenedModel model = OpenTinyModel(GetParam());
  const std::vector<float> exact = LastLogits(model, "f16", nullptr);
  std::vector<std::string> names;
  for (const CodecDesign& design : CodecDesigns()) names.emplace_back(design.name);
  std::vector<DesignedCodec> codecs = CalibrateTiny(model, Options(names));
  ASSERT_EQ(codecs.size(), names.size());
  std::vector<double> distances;
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(codecs[i].calibration.codec, names[i]);
    EXPECT_GT(codecs[i].report.distortion, 0.0);
    EXPECT_LT(codecs[i].report.distortion, 1.0) << names[i] << " loses more than keeping means alone";
    auto calibration = std::make_shared<kv::Calibration>(std::move(codecs[i].calibration));
    distances.push_back(SquaredDistance(LastLogits(model, names[i], calibration), exact));
  }
  const auto distance = [&](const char* name) {
    return distances[static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
  };
  EXPECT_LT(distance("klt3"), distance("klt2"));
  EXPECT_LT(distance("klt2"), distance("klt1"));
  EXPECT_LT(distance("cq2"), distance("cq1"));
  EXPECT_LT(distance("klt2"), 0.1 * SquaredDistance(exact, std::vector<float>(exact.size())));
}

INSTANTIATE_TEST_SUITE_P(Models, CalibrateTinyModels,
                         testing::Values("tiny-llama-f32", "tiny-qwen3-f16", "tiny-gemma3-q8_0"));

TEST(Calibrate, RefusesWhatIsTooShortNamingTheFlag) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  const auto refused = [&](int64_t ids, int64_t context, int64_t chunks, const char* flag) {
    CalibrateOptions options = Options({"klt2"});
    options.chunks = {context, chunks};
    EXPECT_THAT(Calibrate(model, SomeIds(ids), options, NoProgress),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(flag)));
  };
  refused(600, 255, 2, "--context=255");
  refused(600, 0, 2, "--context=0");
  refused(600, -1, 2, "--context=-1");
  refused(600, 513, 2, "--context=513");
  refused(299, 300, 2, "--context=300");
  refused(0, 300, 2, "--context=300");
  refused(600, 300, 0, "--chunks");
  refused(600, 300, -1, "--chunks");
  CalibrateOptions options = Options({"klt2"});
  options.mode.weights = "w3";
  EXPECT_THAT(Calibrate(model, SomeIds(600), options, NoProgress),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("weights")));
}

TEST(Calibrate, TakesTheShortestContextAndTheLongest) {
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  for (const int64_t context : {256, 512}) {
    CalibrateOptions options = Options({"klt1"});
    options.chunks = {context, 1};
    EXPECT_THAT(Calibrate(model, SomeIds(context), options, NoProgress), IsOk());
  }
}

// The same file with one number of a tensor replaced.
OpenedModel WithNumber(const std::string& name, const std::string& tensor, float number, std::string& bytes) {
  std::ifstream file(TinyModelPath(name), std::ios::binary);
  bytes.assign(std::istreambuf_iterator<char>(file), {});
  const absl::Span<const std::byte> view(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  OpenedModel model = OpenTinyModel(name);
  absl::StatusOr<ModelFile> parsed = ParseModelFile(view, nullptr);
  EXPECT_THAT(parsed, IsOk());
  model.file = *std::move(parsed);
  const int64_t offset = model.file.weights->Find(tensor)->data.data() - view.data();
  std::memcpy(bytes.data() + offset, &number, sizeof(number));
  return model;
}

TEST(Calibrate, RefusesAModelThatComputesNonsense) {
  for (const char* tensor :
       {"blk.1.attn_k.weight", "blk.1.attn_v.weight", "blk.1.attn_q.weight", "token_embd.weight"}) {
    for (const float number : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::string bytes;
      const OpenedModel model = WithNumber("tiny-llama-f32", tensor, number, bytes);
      CalibrateOptions options = Options({"klt2"});
      options.mode.weights = "f32";
      options.mode.activations = "f32";
      std::vector<int32_t> ids = SomeIds(600);
      for (int32_t& id : ids) id %= 100;
      ids[3] = 0;  // the row of the embedding
      EXPECT_THAT(Calibrate(model, ids, options, NoProgress),
                  StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not finite")))
          << tensor << " " << number;
    }
  }
}

TEST(Calibrate, TellsHowFarItIs) {
  std::vector<std::string> told;
  const OpenedModel model = OpenTinyModel("tiny-llama-f32");
  ASSERT_THAT(Calibrate(model, SomeIds(700), Options({"klt1", "cq1"}),
                        [&](const std::string& stage, int64_t done, int64_t all) {
                          EXPECT_LE(done, all);
                          if (told.empty() || told.back() != stage) told.push_back(stage);
                        }),
              IsOk());
  EXPECT_THAT(told, testing::ElementsAre("texts", "klt1", "cq1"));
}

}  // namespace
}  // namespace nibble::engine
