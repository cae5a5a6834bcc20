// Vocabularies that come as tokenizer.json against what the reference tokenizers make of the golden texts.
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/golden.h"
#include "tests/engine/tokenizer/through_json.h"

namespace nibble::engine {
namespace {

class HfByteLevel : public testing::TestWithParam<const char*> {};

TEST_P(HfByteLevel, TokenizesAsTheReferenceDoes) {
  const nlohmann::json golden = ReadGolden("tiny-" + std::string(GetParam()));
  ExpectEqualsReference(*ThroughJson(DataFromJson(golden["data"])), golden["cases"]);
}

INSTANTIATE_TEST_SUITE_P(Tiny, HfByteLevel, testing::Values("gpt-2", "smollm", "qwen2", "llama-bpe"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// The two libraries agree but where user-defined tokens part the text: `tokenizers` puts the space before each part,
// and finds them before spaces are spelled.
TEST(HfSentencePiece, TokenizesAsTheReferenceDoes) {
  const auto reference = TinyTokenizer("sentencepiece");
  const auto tokenizer = ThroughJson(reference->data());
  size_t compared = 0;
  for (const auto& [name, text] : GoldenTexts()) {
    const auto has = [&text = text](const char* part) { return text.find(part) != std::string::npos; };
    if (has("  ") || has("\u2581\u2581") || has("[[]]")) continue;
    ++compared;
    for (const bool parse_special : {false, true}) {
      const EncodeOptions options{.add_special = false, .parse_special = parse_special};
      EXPECT_EQ(tokenizer->Encode(text, options), reference->Encode(text, options)) << name;
    }
  }
  EXPECT_GT(compared, 40u);
}

TEST(HfSentencePiece, UserDefinedTokensPartTheTextAsItIs) {
  TokenizerData data;
  data.style = TokenizerData::Style::kSentencePiece;
  data.tokens = {"<unk>", "a", "\u2581", "\u2581a", "\u2581\u2581", "<u>"};
  data.types.assign(6, TokenType::kNormal);
  data.types[0] = TokenType::kUnknown;
  data.types[4] = data.types[5] = TokenType::kUserDefined;
  data.scores = {0, 0, 0, -1, -2, 0};
  for (const bool add_space_prefix : {false, true}) {
    data.add_space_prefix = add_space_prefix;
    const auto tokenizer = ThroughJson(data);
    const auto ids = [&tokenizer](const char* text) { return tokenizer->Encode(text, {}); };
    using Ids = std::vector<int32_t>;
    EXPECT_EQ(ids("  "), add_space_prefix ? (Ids{4, 2}) : Ids{4});  // made by merging
    EXPECT_EQ(ids("\u2581\u2581"), Ids{4});                         // spelled out
    EXPECT_EQ(ids("a<u>a"), add_space_prefix ? (Ids{3, 5, 3}) : (Ids{1, 5, 1}));
  }
}

}  // namespace
}  // namespace nibble::engine
