// Perplexity of real files against llama.cpp's on the same text by the same rule, and of integer modes against f32.
//
// The expected figures are printed by (figures of llama.cpp b11549):
//   tests/bench/llama_cpp_perplexity.py --model F.gguf --text tests/golden/tokenizer/wikitext_excerpt.txt
//       --context 512 --chunks 4
#include <cmath>
#include <fstream>
#include <sstream>

#include "engine/tools/eval.h"
#include "tests/engine/models/golden.h"

namespace nibble::engine {
namespace {

constexpr double kAllowed = 0.005;  // share of the perplexity

struct RealFile {
  const char* name;
  double llama_cpp;
};

class Perplexity : public testing::TestWithParam<RealFile> {};

TEST_P(Perplexity, IsThatOfLlamaCppAndIntegersKeepIt) {
  const std::string path = CachedModel(GetParam().name);
  const absl::StatusOr<OpenedModel> model = OpenModel(path);
  ASSERT_THAT(model, IsOk()) << path << " is needed; tests/run.sh fetches it";
  std::ostringstream text;
  text << std::ifstream(std::string(NIBBLE_TESTS_DIR) + "/golden/tokenizer/wikitext_excerpt.txt").rdbuf();
  EvalOptions options;
  options.chunks = {512, 4};
  options.modes = {ReferenceMode(), {"file", "a8", "f16"}, {"w8", "a8", "f16"}};
  const auto rows = Evaluate(*model, model->tokenizer->Encode(text.str(), {}), options, [](int64_t, int64_t) {});
  ASSERT_THAT(rows, IsOk());
  const double reference = (*rows)[0].perplexity, as_in_file = (*rows)[1].perplexity, w8a8 = (*rows)[2].perplexity;
  RecordProperty("f32", std::to_string(reference));
  RecordProperty("file_a8", std::to_string(as_in_file));
  RecordProperty("w8a8", std::to_string(w8a8));
  EXPECT_NEAR(reference, GetParam().llama_cpp, kAllowed * GetParam().llama_cpp);
  EXPECT_NEAR(as_in_file, reference, kAllowed * reference);
  EXPECT_NEAR(w8a8, reference, kAllowed * reference);
}

INSTANTIATE_TEST_SUITE_P(EveryFile, Perplexity,
                         testing::Values(RealFile{"smollm2", 14.6359}, RealFile{"qwen2.5-coder-0.5b", 21.0316},
                                         RealFile{"gemma3-270m", 13.1477}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           for (char& c : name) c = c == '-' || c == '.' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace nibble::engine
