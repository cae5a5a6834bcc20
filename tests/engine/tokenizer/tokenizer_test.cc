#include "engine/tokenizer/tokenizer.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
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

std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

TEST_P(TinyVocabulary, DecodingAnyBytesGivesThemBack) {
  const auto tokenizer = TinyTokenizer(GetParam());
  std::vector<std::string> texts = {"", std::string("\0", 1), "\xED\xA0\x80", "\xC0\xAF\xFF a\xF0\x9F\x98",
                                    "\xE2\x96x"};
  for (uint32_t seed = 0; seed < 200; ++seed) texts.push_back(RandomBytes(seed * 3, seed));
  for (const std::string& text : texts) {
    for (const bool parse_special : {false, true}) {
      const std::vector<int32_t> ids = tokenizer->Encode(text, {.add_special = false, .parse_special = parse_special});
      EXPECT_EQ(tokenizer->Decode(ids, true), text);
    }
  }
}

TEST_P(TinyVocabulary, Row14_LongWordsAndBrokenBytesAreDefinedAndQuick) {
  const auto tokenizer = TinyTokenizer(GetParam());
  constexpr size_t kMebibyte = 1 << 20, kSome = 1 << 16;
  std::string mixed(kMebibyte, 'a');
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = static_cast<char>('a' + i * i % 23);
  for (const std::string& text :
       {mixed, std::string(kSome, 'a'), std::string(kSome, ' '), std::string(kSome, '\0'), std::string(kSome, '\n'),
        std::string(kSome, '7'), std::string(kSome, '\xFF'), std::string(kSome, '\''), RandomBytes(kSome, 14)}) {
    const std::vector<int32_t> ids = tokenizer->Encode(text, {.add_special = false, .parse_special = true});
    EXPECT_LE(ids.size(), text.size() + 1);
    EXPECT_TRUE(tokenizer->Decode(ids, true) == text);
  }
}

TEST_P(TinyVocabulary, EncodingIsTheSameEachTime) {
  const auto tokenizer = TinyTokenizer(GetParam());
  const std::string text = RandomBytes(5000, 3) + "some words some words some words";
  EXPECT_EQ(tokenizer->Encode(text, {}), tokenizer->Encode(text, {}));
}

TEST(Tokenizer, Row8_ControlTokensAreReadOnlyWhereAsked) {
  const auto tokenizer = TinyTokenizer("qwen2");
  const std::string text = "a<|im_end|>b";
  const int32_t end = tokenizer->FindSpecial(text)[0].id;
  const auto plain = tokenizer->Encode(text, {.parse_special = false});
  EXPECT_THAT(plain, testing::Not(testing::Contains(end)));
  EXPECT_EQ(tokenizer->Decode(plain, false), text);
  const auto special = tokenizer->Encode(text, {.parse_special = true});
  EXPECT_THAT(special, testing::Contains(end));
  EXPECT_EQ(tokenizer->Decode(special, false), "ab");
  EXPECT_EQ(tokenizer->Decode(special, true), text);
}

TEST(Tokenizer, UserDefinedTokensAreAlwaysRead) {
  const auto tokenizer = TinyTokenizer("qwen2");
  const std::vector<int32_t> ids = tokenizer->Encode("<tool_call>", {.parse_special = false});
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer->TokenBytes(ids[0], false), "<tool_call>");
}

TEST(Tokenizer, AddsWhatTheFileAsksForAtTheEnds) {
  TokenizerData data = DataFromJson(ReadGolden("tiny-sentencepiece")["data"]);
  data.bos = 1;
  data.eos = 2;
  data.add_bos = data.add_eos = true;
  const auto tokenizer = *Tokenizer::Create(data);
  EXPECT_THAT(tokenizer->Encode("", {}), testing::ElementsAre(1, 2));
  EXPECT_THAT(tokenizer->Encode("", {.add_special = false}), testing::IsEmpty());
  EXPECT_EQ(tokenizer->Encode("x", {}).front(), 1);
  EXPECT_EQ(tokenizer->Encode("x", {}).back(), 2);
}

TEST(Tokenizer, EndsOfGenerationAreThoseNamedAndThoseOfConvention) {
  TokenizerData data = DataFromJson(ReadGolden("tiny-qwen2")["data"]);
  data.eos = 5;
  const auto tokenizer = *Tokenizer::Create(data);
  const int32_t im_end = tokenizer->FindSpecial("<|im_end|>")[0].id;
  const int32_t eot = tokenizer->FindSpecial("<|eot_id|>")[0].id;
  EXPECT_THAT(tokenizer->end_of_generation_ids(), testing::ElementsAre(5, im_end, eot));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(im_end));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(6));
}

TEST(Tokenizer, DecodeSkipsIdsOutOfRange) {
  const auto tokenizer = TinyTokenizer("gpt-2");
  std::vector<int32_t> ids = tokenizer->Encode("hello", {});
  ids.insert(ids.begin(), -1);
  ids.push_back(static_cast<int32_t>(tokenizer->vocab_size()));
  EXPECT_EQ(tokenizer->Decode(ids, false), "hello");
}

TEST(Tokenizer, DataThatContradictsItselfIsRefused) {
  using testing::HasSubstr;
  const TokenizerData good = DataFromJson(ReadGolden("tiny-gpt-2")["data"]);
  const auto refused = [&](auto change, absl::StatusCode code, const char* message) {
    TokenizerData data = good;
    change(data);
    EXPECT_THAT(Tokenizer::Create(data), StatusIs(code, HasSubstr(message)));
  };
  const auto broken = absl::StatusCode::kFailedPrecondition;
  refused([](TokenizerData& d) { d.pre = "nobody"; }, absl::StatusCode::kUnimplemented, "\"nobody\"");
  refused([](TokenizerData& d) { d.tokens.clear(); }, broken, "no tokens");
  refused([](TokenizerData& d) { d.types.pop_back(); }, broken, "types");
  refused([](TokenizerData& d) { d.eos = 1 << 20; }, broken, "eos id");
  refused([](TokenizerData& d) { d.bos = -2; }, broken, "bos id");
  refused([](TokenizerData& d) { d.merges[3] = "nospace"; }, broken, "merge 3");
  refused([](TokenizerData& d) { d.merges[4] = "no such"; }, broken, "merge 4");
  refused([](TokenizerData& d) { d.style = TokenizerData::Style::kSentencePiece, d.merges.clear(); }, broken, "scores");
  refused([](TokenizerData& d) { d.end_ids = {1, 1 << 20}; }, broken, "end id");
}

TEST(Tokenizer, ABadByteTokenIsRefused) {
  TokenizerData data = DataFromJson(ReadGolden("tiny-sentencepiece")["data"]);
  data.tokens[3] = "<0xZZ>";
  EXPECT_THAT(Tokenizer::Create(data), StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr("token 3")));
}

}  // namespace
}  // namespace nibble::engine
