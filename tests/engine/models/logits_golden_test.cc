#include <algorithm>
#include <string>

#include "tests/engine/models/golden.h"

namespace nibble::engine {
namespace {

class TinyModel : public testing::TestWithParam<const char*> {};

TEST_P(TinyModel, LogitsEqualTheReference) {
  ExpectGoldenLogits(GoldenPath(std::string(GetParam()) + ".gguf"), GetParam(), 23);
}

INSTANTIATE_TEST_SUITE_P(EveryArchitecture, TinyModel,
                         testing::Values("tiny-llama-f32", "tiny-llama-quantized", "tiny-mistral-f16",
                                         "tiny-qwen2-bf16", "tiny-qwen3-f16", "tiny-gemma3-q8_0"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble::engine
