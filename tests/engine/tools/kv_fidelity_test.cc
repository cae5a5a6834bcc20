// What the KV codecs cost a real model, with calibrations made from one part of a text and scored on another. The short
// form of tests/bench/kv_fidelity.py, whose figures are in kvcache/codecs/README.md; bounds are those the project
// keeps.
#include <fstream>
#include <sstream>

#include "engine/tools/calibrate.h"
#include "engine/tools/eval.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/models/golden.h"

namespace nibble::engine {
namespace {

constexpr int64_t kContext = 1024;
constexpr int64_t kScoredChunks = 3;

struct Bound {
  const char* codec;
  double bits, kl_divergence, top1;
};
constexpr Bound kBounds[] = {
    {"int8", 8.5, 0.001, 0.98}, {"int4", 4.5, 0.01, 0.95},  {"klt3", 3.05, 0.012, 0.95},
    {"klt2", 2.05, 0.03, 0.92}, {"klt1", 1.05, 0.10, 0.85},
};

void AddCalibrations(absl::Span<const int32_t> ids, OpenedModel& model) {
  CalibrateOptions options;
  options.chunks = {kContext, 8};
  for (const Bound& bound : kBounds) {
    if (const CodecDesign* design = FindCodecDesign(bound.codec)) options.designs.push_back(design);
  }
  auto calibrated = Calibrate(model, ids, options, [](const std::string&, int64_t, int64_t) {});
  ASSERT_THAT(calibrated, IsOk());
  for (DesignedCodec& codec : calibrated->codecs) {
    const std::string name = codec.calibration.codec;
    model.calibrations[name] = std::make_shared<const kv::Calibration>(std::move(codec.calibration));
  }
}

TEST(KvFidelity, OfARealModelIsWithinBounds) {
  const std::string path = CachedModel("smollm2");
  absl::StatusOr<OpenedModel> model = OpenModel(path);
  ASSERT_THAT(model, IsOk()) << path << " is needed; tests/run.sh fetches it";
  std::ostringstream text;
  text << std::ifstream(std::string(NIBBLE_TESTS_DIR) + "/golden/tokenizer/wikitext_excerpt.txt").rdbuf();
  const std::vector<int32_t> ids = model->tokenizer->Encode(text.str(), {});
  AddCalibrations(absl::MakeConstSpan(ids).subspan(kContext * kScoredChunks), *model);
  EvalOptions options;
  options.chunks = {kContext, kScoredChunks};
  for (const Bound& bound : kBounds) options.modes.push_back({"f32", "f32", bound.codec});
  const auto rows = Evaluate(*model, ids, options, [](int64_t, int64_t) {});
  ASSERT_THAT(rows, IsOk());
  for (size_t i = 0; i < std::size(kBounds); ++i) {
    SCOPED_TRACE(kBounds[i].codec);
    EXPECT_LE((*rows)[i].kv_bits, kBounds[i].bits);
    EXPECT_LE((*rows)[i].kl_divergence, kBounds[i].kl_divergence);
    EXPECT_GE((*rows)[i].top1, kBounds[i].top1);
  }
}

}  // namespace
}  // namespace nibble::engine
