// Row 52 of the robustness table.
#include "engine/weights/tokenizer_gguf.h"

#include <cmath>
#include <string>
#include <vector>

#include "engine/weights/vocabulary.h"
#include "gtest/gtest.h"
#include "kvcache/base/status_macros.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;

using Strings = std::vector<std::string>;
using Ints = std::vector<int32_t>;

absl::StatusOr<TokenizerData> Read(const GgufBuilder& file, int64_t vocab_size = 6) {
  const std::string bytes = file.Build();
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile parsed, GgufFile::Parse(AsBytes(bytes)));
  return TokenizerFromGguf(parsed, vocab_size);
}

void ExpectRefused(const GgufBuilder& file, const std::string& key, const std::string& what) {
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kFailedPrecondition,
                                   AllOf(HasSubstr("key \"tokenizer.ggml." + key + "\""),
                                         ContainsRegex("at byte [0-9]+: "), HasSubstr(what))));
}

TEST(TokenizerGguf, ByteLevelBpe) {
  GgufBuilder file = TinyGguf("llama");
  file.Set("tokenizer.chat_template", "{{ messages }}").Set("tokenizer.ggml.eot_token_id", uint32_t{0});
  file.Set("tokenizer.ggml.unknown_token_id", int32_t{3}).Set("tokenizer.ggml.padding_token_id", uint64_t{4});
  const auto data = Read(file);
  ASSERT_THAT(data, IsOk());
  EXPECT_EQ(data->style, TokenizerData::Style::kByteLevelBpe);
  EXPECT_EQ(data->pre, "smollm");
  EXPECT_THAT(data->tokens, ElementsAre("<pad>", "<eos>", "<bos>", "a", "b", "ab"));
  EXPECT_EQ(data->types[0], TokenType::kControl);
  EXPECT_EQ(data->types[5], TokenType::kNormal);
  EXPECT_THAT(data->merges, ElementsAre("a b"));
  EXPECT_TRUE(data->scores.empty());
  EXPECT_EQ(data->bos, 2);
  EXPECT_EQ(data->eos, 1);
  EXPECT_EQ(data->eot, 0);
  EXPECT_EQ(data->unknown, 3);
  EXPECT_EQ(data->pad, 4);
  EXPECT_FALSE(data->add_bos);
  EXPECT_FALSE(data->add_eos);
  EXPECT_FALSE(data->add_space_prefix);
  EXPECT_EQ(data->chat_template, "{{ messages }}");
}

TEST(TokenizerGguf, SentencePiece) {
  const auto data = Read(TinyGguf("gemma3"));
  ASSERT_THAT(data, IsOk());
  EXPECT_EQ(data->style, TokenizerData::Style::kSentencePiece);
  EXPECT_EQ(data->types[3], TokenType::kByte);
  EXPECT_THAT(data->scores, ElementsAre(0, 0, 0, 0, -1, -2));
  EXPECT_TRUE(data->merges.empty());
  EXPECT_TRUE(data->add_bos);
  EXPECT_TRUE(data->add_space_prefix);
  EXPECT_EQ(data->eot, -1);
}

TEST(TokenizerGguf, WhatIsAddedIsAsTheFileSays) {
  GgufBuilder file = TinyGguf("gemma3");
  file.Set("tokenizer.ggml.add_bos_token", false).Set("tokenizer.ggml.add_eos_token", true);
  file.Set("tokenizer.ggml.add_space_prefix", false).Remove("tokenizer.ggml.token_type");
  const auto data = Read(file);
  ASSERT_THAT(data, IsOk());
  EXPECT_FALSE(data->add_bos);
  EXPECT_TRUE(data->add_eos);
  EXPECT_FALSE(data->add_space_prefix);
  EXPECT_TRUE(data->types.empty());
  GgufBuilder llama3 = TinyGguf("llama");
  EXPECT_TRUE(Read(llama3.Set("tokenizer.ggml.pre", "llama-bpe"))->add_bos);
  EXPECT_FALSE(Read(llama3.Remove("tokenizer.ggml.bos_token_id"))->add_bos);
  EXPECT_EQ(Read(llama3.Remove("tokenizer.ggml.pre"))->pre, "");
}

TEST(TokenizerGguf, FlagsWithoutTheirTokenAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  file.Remove("tokenizer.ggml.bos_token_id").Set("tokenizer.ggml.add_bos_token", true);
  ExpectRefused(file, "add_bos_token", "no bos id");
  file = TinyGguf("llama");
  file.Remove("tokenizer.ggml.eos_token_id").Set("tokenizer.ggml.add_eos_token", true);
  ExpectRefused(file, "add_eos_token", "no eos id");
  for (const char* flag : {"add_bos_token", "add_eos_token", "add_space_prefix"}) {
    file = TinyGguf("llama");
    ExpectRefused(file.Set("tokenizer.ggml." + std::string(flag), uint8_t{1}), flag, "not a bool");
  }
}

TEST(TokenizerGguf, Row52_MissingAndUnknownParts) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("tokenizer.ggml.model", "bert"), "model", "\"bert\" is not supported");
  ExpectRefused(file.Set("tokenizer.ggml.model", true), "model", "not a string");
  ExpectRefused(file.Remove("tokenizer.ggml.model"), "model", "is missing");
  for (const char* key : {"tokens", "merges"}) {
    GgufBuilder bpe = TinyGguf("llama");
    ExpectRefused(bpe.Set("tokenizer.ggml." + std::string(key), Ints{1}), key, "not an array of strings");
    ExpectRefused(bpe.Remove("tokenizer.ggml." + std::string(key)), key, "is missing");
  }
  GgufBuilder pieces = TinyGguf("gemma3");
  ExpectRefused(pieces.Remove("tokenizer.ggml.scores"), "scores", "is missing");
}

TEST(TokenizerGguf, Row52_TokenLengths) {
  GgufBuilder file = TinyGguf("llama");
  Strings tokens = {"<pad>", "<eos>", std::string(kMaxTokenBytes, 'x'), "a", "b", "ab"};
  EXPECT_THAT(Read(file.Set("tokenizer.ggml.tokens", tokens)), IsOk());
  tokens[2] += 'x';
  ExpectRefused(file.Set("tokenizer.ggml.tokens", tokens), "tokens", "element 2 is longer than 65536 bytes");
}

TEST(TokenizerGguf, Row52_ByteTokens) {
  for (const char* bad : {"<0x-1>", "<0xZZ>", "<0x0>", "<0x000>", "0x00", "<0X0A>", "<0x0A)", "", "<0xA >"}) {
    GgufBuilder file = TinyGguf("gemma3");
    file.Set("tokenizer.ggml.tokens", Strings{"<pad>", "<eos>", "<bos>", bad, "a", "ab"});
    ExpectRefused(file, "token_type", "element 3 says byte");
  }
  for (const char* good : {"<0x00>", "<0xfF>"}) {
    GgufBuilder file = TinyGguf("gemma3");
    file.Set("tokenizer.ggml.tokens", Strings{"<pad>", "<eos>", "<bos>", good, "a", "ab"});
    EXPECT_THAT(Read(file), IsOk());
  }
}

TEST(TokenizerGguf, Row52_VocabularyThatIsNotTheEmbeddings) {
  for (const int64_t rows : {0, 5, 7}) {
    EXPECT_THAT(Read(TinyGguf("llama"), rows),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("has 6 tokens, the embedding")));
  }
}

TEST(TokenizerGguf, Row52_SizesOfTypesAndScores) {
  GgufBuilder file = TinyGguf("gemma3");
  ExpectRefused(file.Set("tokenizer.ggml.scores", std::vector<float>(5)), "scores", "5 elements for 6 tokens");
  ExpectRefused(file.Set("tokenizer.ggml.scores", std::vector<float>(6, std::nanf(""))), "scores", "is not finite");
  file = TinyGguf("gemma3");
  ExpectRefused(file.Set("tokenizer.ggml.token_type", Ints(7, 1)), "token_type", "7 elements for 6 tokens");
  ExpectRefused(file.Set("tokenizer.ggml.token_type", Strings{"a"}), "token_type", "not an array of int32");
  for (const int32_t type : {-1, 0, 7, 1 << 30}) {
    ExpectRefused(file.Set("tokenizer.ggml.token_type", Ints(6, type)), "token_type", "no token type");
  }
}

TEST(TokenizerGguf, Row52_SpecialIdsOutOfRange) {
  for (const char* name : {"bos", "eos", "eot", "unknown", "padding", "fim_pre"}) {
    const std::string key = std::string(name) + "_token_id";
    GgufBuilder file = TinyGguf("llama");
    EXPECT_THAT(Read(file.Set("tokenizer.ggml." + key, uint32_t{5})), IsOk());
    ExpectRefused(file.Set("tokenizer.ggml." + key, uint32_t{6}), key, "6 is outside the vocabulary of 6");
    ExpectRefused(file.Set("tokenizer.ggml." + key, uint32_t{0xffffffff}), key, "is outside the vocabulary");
    ExpectRefused(file.Set("tokenizer.ggml." + key, int32_t{-1}), key, "is negative");
  }
}

TEST(TokenizerGguf, Row52_MergesOfUnknownTokens) {
  for (const char* bad : {"a x", "x b", "b a", "a  b", "a b ", " a b"}) {
    GgufBuilder file = TinyGguf("llama");
    ExpectRefused(file.Set("tokenizer.ggml.merges", Strings{"a b", bad}), "merges",
                  "element 1 is of a token not in the vocabulary");
  }
  for (const char* bad : {"", "ab", " "}) {
    GgufBuilder file = TinyGguf("llama");
    ExpectRefused(file.Set("tokenizer.ggml.merges", Strings{bad}), "merges", "element 0 is not two tokens");
  }
}

TEST(TokenizerGguf, Row52_TextsThatAreTooLong) {
  GgufBuilder file = TinyGguf("llama");
  EXPECT_THAT(Read(file.Set("tokenizer.chat_template", std::string(kMaxChatTemplateBytes, 'x'))), IsOk());
  EXPECT_THAT(Read(file.Set("tokenizer.chat_template", std::string(kMaxChatTemplateBytes + 1, 'x'))),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is longer than 1048576 bytes")));
  file = TinyGguf("llama");
  ExpectRefused(file.Set("tokenizer.ggml.pre", uint32_t{1}), "pre", "not a string");
}

}  // namespace
}  // namespace nibble::engine
