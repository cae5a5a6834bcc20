#include "engine/tokenizer/tokenizer.h"

#include "gtest/gtest.h"
#include "tests/engine/tokenizer/golden.h"

namespace nibble::engine {
namespace {

class TinyVocabulary : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Styles, TinyVocabulary,
                         testing::Values("smollm", "qwen2", "gpt-2", "llama-bpe", "sentencepiece"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(TinyVocabulary, EqualsReference) {
  const nlohmann::json golden = ReadGolden(std::string("tiny-") + GetParam());
  ExpectEqualsReference(*TinyTokenizer(GetParam()), golden["cases"]);
}

}  // namespace
}  // namespace nibble::engine
