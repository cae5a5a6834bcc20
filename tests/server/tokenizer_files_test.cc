// tokenizer.json of each kind of vocabulary; that it cuts texts as the tokenizer does, tests/acceptance shows.
#include "server/tokenizer_files.h"

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/base/status_matchers.h"

namespace nibble::server {
namespace {

using engine::TokenizerData;
using engine::TokenType;
using nlohmann::json;

TokenizerData SentencePiece() {
  TokenizerData data;
  data.style = TokenizerData::Style::kSentencePiece;
  data.tokens = {"<unk>", "a", "b", "c", "ab", "abc", "bc", "\u2581\u2581"};
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  data.types[0] = TokenType::kUnknown;
  data.types.back() = TokenType::kUserDefined;
  data.unknown = 0;
  data.add_space_prefix = false;
  return data;
}

json JsonOf(const TokenizerData& data) {
  const auto text = TokenizerJson(data);
  EXPECT_THAT(text, IsOk());
  return json::parse(*text);
}

TEST(TokenizerFiles, ScoresBecomeMergesTheBestPieceFirst) {
  TokenizerData data = SentencePiece();
  data.scores = {0, 0, 0, 0, -2, -3, -1, 0};
  const json file = JsonOf(data);
  EXPECT_EQ(file["model"]["merges"], json::parse(R"([["b","c"],["a","b"],["a","bc"],["ab","c"]])"));
  EXPECT_EQ(file["model"]["unk_token"], "<unk>");
  EXPECT_EQ(file["model"]["byte_fallback"], true);
  EXPECT_EQ(file["added_tokens"][0]["normalized"], true) << "its spaces are written as U+2581";
  EXPECT_EQ(file["normalizer"]["normalizers"].size(), 1u);
  data.add_space_prefix = true;
  EXPECT_EQ(JsonOf(data)["normalizer"]["normalizers"][0]["type"], "Prepend");
}

TEST(TokenizerFiles, MergesOfASentencePieceVocabularyStay) {
  TokenizerData data = SentencePiece();
  data.merges = {"a b", "ab c"};
  const json file = JsonOf(data);
  EXPECT_EQ(file["model"]["merges"], json::parse(R"(["a b","ab c"])"));
  EXPECT_EQ(file["added_tokens"][0]["normalized"], false);
}

TEST(TokenizerFiles, AnUnknownPreTokenizerIsSaid) {
  TokenizerData data;
  data.pre = "of-tomorrow";
  EXPECT_THAT(TokenizerJson(data), StatusIs(absl::StatusCode::kUnimplemented, testing::HasSubstr("of-tomorrow")));
}

}  // namespace
}  // namespace nibble::server
