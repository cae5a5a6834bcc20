#include <algorithm>
#include <string>

#include "tests/engine/models/golden.h"

namespace nibble::engine {
namespace {

class RealModel : public testing::TestWithParam<const char*> {};

TEST_P(RealModel, LogitsEqualTheReference) { ExpectGoldenLogits(CachedModel(GetParam()), GetParam(), 64); }

INSTANTIATE_TEST_SUITE_P(EveryFile, RealModel, testing::Values("smollm2", "qwen2.5-coder-0.5b", "gemma3-270m"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble::engine
