// Row 52 of the robustness table, for the files of a Hugging Face folder. Ids are compared with the references' in
// tests/engine/tokenizer.
#include "engine/weights/tokenizer_hf.h"

#include <string>
#include <utility>
#include <vector>

#include "engine/weights/vocabulary.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

// Eight rows; ids 6 and 7 have no token.
struct Files {
  Json tokenizer = {
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", {{"type", "ByteLevel"}}},
      {"added_tokens", {{{"id", 0}, {"content", "<eos>"}, {"special", true}}, {{"id", 5}, {"content", "<tool>"}}}},
      {"model",
       {{"type", "BPE"}, {"vocab", {{"<eos>", 0}, {"a", 1}, {"b", 2}, {"ab", 3}, {"<bos>", 4}}}, {"merges", {"a b"}}}}};
  Json tokenizer_config = {{"bos_token", {{"content", "<bos>"}}}, {"eos_token", "<eos>"}, {"chat_template", "hello"}};
  Json generation_config = Json::object();
  Json config = {{"pad_token_id", 2}, {"eos_token_id", 3}};

  Json& model(const char* key) { return tokenizer["model"][key]; }
};

absl::StatusOr<TokenizerData> Read(const Files& files) {
  const auto tokenizer = JsonDocument::Parse(files.tokenizer.dump(), "tokenizer.json");
  const auto tokenizer_config = JsonDocument::Parse(files.tokenizer_config.dump(), "tokenizer_config.json");
  const auto generation_config = JsonDocument::Parse(files.generation_config.dump(), "generation_config.json");
  const auto config = JsonDocument::Parse(files.config.dump(), "config.json");
  return TokenizerFromHf({*tokenizer, *tokenizer_config, *generation_config, *config}, 8);
}

template <typename Change>
absl::StatusOr<TokenizerData> ReadWith(Change change) {
  Files files;
  change(files);
  return Read(files);
}

auto Refused(const std::string& field, const std::string& what = "") {
  return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(field + ": "), HasSubstr(what)));
}

TEST(TokenizerHf, ReadsAllThatTheFilesSay) {
  const auto data = Read(Files());
  ASSERT_THAT(data, IsOk());
  EXPECT_EQ(data->style, TokenizerData::Style::kByteLevelBpe);
  EXPECT_EQ(data->pre, "gpt-2");
  EXPECT_THAT(data->tokens, ElementsAre("<eos>", "a", "b", "ab", "<bos>", "<tool>", "[PAD6]", "[PAD7]"));
  EXPECT_THAT(data->types,
              ElementsAre(TokenType::kControl, TokenType::kNormal, TokenType::kNormal, TokenType::kNormal,
                          TokenType::kNormal, TokenType::kUserDefined, TokenType::kUnused, TokenType::kUnused));
  EXPECT_THAT(data->merges, ElementsAre("a b"));
  EXPECT_EQ(data->bos, 4);
  EXPECT_EQ(data->eos, 0);
  EXPECT_EQ(data->pad, 2);
  EXPECT_EQ(data->unknown, -1);
  EXPECT_THAT(data->end_ids, ElementsAre(3));
  EXPECT_FALSE(data->add_bos);
  EXPECT_FALSE(data->add_eos);
  EXPECT_EQ(data->chat_template, "hello");
}

TEST(TokenizerHf, EndsOfAGenerationAreOneIdOrMany) {
  const auto ends = [](Json ids) {
    const auto data = ReadWith([&](Files& files) { files.generation_config["eos_token_id"] = std::move(ids); });
    EXPECT_THAT(data, IsOk());
    return data->end_ids;
  };
  EXPECT_THAT(ends(1), ElementsAre(1));
  EXPECT_THAT(ends({5, 0}), ElementsAre(5, 0));
  EXPECT_THAT(ends(nullptr), ElementsAre(3));  // config.json's
  for (const Json& bad : {Json(8), Json(-1), Json({1, 8}), Json("<eos>"), Json({"<eos>"})}) {
    EXPECT_THAT(ReadWith([&](Files& files) { files.generation_config["eos_token_id"] = bad; }),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("generation_config.json: eos_token_id")));
  }
}

Json Template(std::vector<std::string> pieces) {
  Json single = Json::array();
  for (const std::string& piece : pieces) {
    const char* const kind = piece == "A" ? "Sequence" : "SpecialToken";
    single.push_back({{kind, {{"id", piece}, {"type_id", 0}}}});
  }
  return {{"type", "TemplateProcessing"}, {"single", single}};
}

TEST(TokenizerHf, ThePostProcessorSaysWhatStandsAtTheEnds) {
  const auto read = [](std::vector<std::string> pieces) {
    return ReadWith([&](Files& files) {
      const Json steps = {{{"type", "ByteLevel"}}, Template(std::move(pieces))};
      files.tokenizer["post_processor"] = {{"type", "Sequence"}, {"processors", steps}};
    });
  };
  EXPECT_TRUE(read({"<bos>", "A"})->add_bos);
  EXPECT_FALSE(read({"<bos>", "A"})->add_eos);
  EXPECT_TRUE(read({"<bos>", "A", "<eos>"})->add_eos);
  EXPECT_FALSE(read({"A"})->add_bos);
  EXPECT_THAT(read({"<eos>", "A"}), Refused("post_processor", "not the bos token"));
  EXPECT_THAT(read({"<none>", "A"}), Refused("post_processor", "not in the vocabulary"));
  EXPECT_THAT(read({"<bos>"}), Refused("single", "no place for the text"));
  EXPECT_THAT(read({"<bos>", "<bos>", "A"}), Refused("single[1]"));
  EXPECT_THAT(read({"A", "A"}), Refused("single[1]"));
  const auto overruled = ReadWith([](Files& files) {
    files.tokenizer["post_processor"] = Template({"<bos>", "A"});
    files.tokenizer_config["add_bos_token"] = false;
    files.tokenizer_config["add_eos_token"] = true;
  });
  EXPECT_FALSE(overruled->add_bos);
  EXPECT_TRUE(overruled->add_eos);
  EXPECT_THAT(ReadWith([](Files& files) {
                files.tokenizer_config["bos_token"] = nullptr;
                files.tokenizer_config["add_bos_token"] = true;
              }),
              Refused("add_bos_token", "no bos token"));
}

TEST(TokenizerHf, OfManyChatTemplatesTheDefaultCounts) {
  const auto data = ReadWith([](Files& files) {
    files.tokenizer_config["chat_template"] = {{{"name", "tool_use"}, {"template", "no"}},
                                               {{"name", "default"}, {"template", "yes"}}};
  });
  EXPECT_EQ(data->chat_template, "yes");
  const auto read = [](size_t bytes) {
    return ReadWith([&](Files& files) { files.tokenizer_config["chat_template"] = std::string(bytes, 'x'); });
  };
  EXPECT_THAT(read(kMaxChatTemplateBytes), IsOk());
  EXPECT_THAT(read(kMaxChatTemplateBytes + 1), Refused("tokenizer_config.json: chat_template", "longer"));
}

TEST(TokenizerHf, Row52_BadVocabulariesAreRefused) {
  const auto read = [](const char* token, Json id) {
    return ReadWith([&](Files& files) { files.model("vocab")[token] = std::move(id); });
  };
  EXPECT_THAT(read("c", 7), IsOk());
  for (const Json& id : {Json(8), Json(-1), Json(1.0), Json("6"), Json(nullptr), Json(UINT64_MAX)}) {
    EXPECT_THAT(read("c", id), Refused("tokenizer.json: model.vocab", "\"c\" has the id")) << id;
  }
  EXPECT_THAT(read("c", 1), Refused("model.vocab", "another token"));
  EXPECT_THAT(read(std::string(kMaxTokenBytes, 'x').c_str(), 6), IsOk());
  EXPECT_THAT(read(std::string(kMaxTokenBytes + 1, 'x').c_str(), 6), Refused("model.vocab", "longer than"));
  EXPECT_THAT(ReadWith([](Files& files) { files.model("vocab") = {"a", "b"}; }), Refused("model.vocab"));
  EXPECT_THAT(ReadWith([](Files& files) { files.tokenizer.erase("model"); }), Refused("model", "is missing"));
}

TEST(TokenizerHf, Row52_BadMergesAreRefused) {
  const auto read = [](Json merge) {
    return ReadWith([&](Files& files) { files.model("merges").push_back(std::move(merge)); });
  };
  EXPECT_THAT(read(Json::array({"a", "b"})), IsOk());
  for (const Json& merge : {Json("a"), Json("a b c"), Json(""), Json(1), Json(nullptr), Json::array({"a"}),
                            Json::array({"a", 1}), Json::array({"a", "b "}), Json::array({"a", "b", "c"})}) {
    EXPECT_THAT(read(merge), Refused("model.merges[1]", "is not two tokens without spaces")) << merge;
  }
  for (const char* merge : {"a a", "a x", "x b"}) EXPECT_THAT(read(merge), Refused("model.merges[1]", "vocabulary"));
  EXPECT_THAT(ReadWith([](Files& files) { files.model("merges") = 3; }), Refused("model.merges", "is not an array"));
}

TEST(TokenizerHf, Row52_BadAddedTokensAreRefused) {
  const auto read = [](const char* key, Json value) {
    return ReadWith([&](Files& files) { files.tokenizer["added_tokens"][1][key] = std::move(value); });
  };
  EXPECT_THAT(read("id", 8), Refused("added_tokens[1].id", "is not within 0 to 7"));
  EXPECT_THAT(read("id", 0), Refused("added_tokens[1]", "another token"));
  EXPECT_THAT(read("content", "a"), Refused("added_tokens[1]", "two ids"));
  EXPECT_THAT(read("content", ""), Refused("added_tokens[1].content", "is empty"));
  EXPECT_THAT(read("content", nullptr), Refused("added_tokens[1].content", "is missing"));
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    EXPECT_THAT(read(key, false), IsOk());
    EXPECT_THAT(read(key, true), Refused("added_tokens[1]." + std::string(key), "true is not supported"));
  }
  EXPECT_THAT(ReadWith([](Files& files) { files.tokenizer_config["eos_token"] = "<none>"; }),
              Refused("tokenizer_config.json: eos_token", "not in the vocabulary"));
  EXPECT_THAT(ReadWith([](Files& files) { files.config["pad_token_id"] = 8; }), Refused("config.json: pad_token_id"));
}

TEST(TokenizerHf, WhatWouldChangeIdsIsRefused) {
  const std::pair<const char*, Json> models[] = {{"type", "Unigram"},
                                                 {"dropout", 0.1},
                                                 {"byte_fallback", true},
                                                 {"ignore_merges", true},
                                                 {"end_of_word_suffix", "</w>"},
                                                 {"continuing_subword_prefix", "##"},
                                                 {"unk_token", "<none>"}};
  for (const auto& [key, value] : models) {
    EXPECT_THAT(ReadWith([&, key = key, value = value](Files& files) { files.model(key) = value; }),
                Refused("model." + std::string(key)));
  }
  const std::pair<const char*, Json> steps[] = {
      {"normalizer", {{"type", "Lowercase"}}},
      {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}},
      {"normalizer", 3},
      {"pre_tokenizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", true}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
      {"pre_tokenizer", {{"type", "Digits"}, {"individual_digits", false}}},
      {"pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "x"}}}, {"behavior", "Removed"}}},
      {"pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}}},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Sequence"}}}}}},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {3}}}},
      {"post_processor", {{"type", "BertProcessing"}}}};
  for (const auto& [key, value] : steps) {
    EXPECT_THAT(ReadWith([&, key = key, value = value](Files& files) { files.tokenizer[key] = value; }),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tokenizer.json: ")))
        << value;
  }
}

TEST(TokenizerHf, SentencePieceIsWhatFallsBackToBytes) {
  const auto read = [](Json pre_tokenizer, Json normalizer) {
    return ReadWith([&](Files& files) {
      files.tokenizer["pre_tokenizer"] = std::move(pre_tokenizer);
      files.tokenizer["normalizer"] = std::move(normalizer);
      files.model("byte_fallback") = true;
      files.model("unk_token") = "<eos>";
      files.model("vocab")["<0x0A>"] = 6;
    });
  };
  const Json spell = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  const auto gemma = read(nullptr, spell);
  ASSERT_THAT(gemma, IsOk());
  EXPECT_EQ(gemma->style, TokenizerData::Style::kSentencePiece);
  EXPECT_EQ(gemma->types[6], TokenType::kByte);
  EXPECT_EQ(gemma->unknown, 0);
  EXPECT_EQ(gemma->types[0], TokenType::kUnknown);
  EXPECT_FALSE(gemma->add_space_prefix);
  EXPECT_TRUE(read(nullptr, {{"type", "Sequence"}, {"normalizers", {prepend, spell}}})->add_space_prefix);
  const auto metaspace = [](const char* scheme) {
    return Json{{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", scheme}, {"split", false}};
  };
  EXPECT_TRUE(read(metaspace("always"), nullptr)->add_space_prefix);
  EXPECT_FALSE(read(metaspace("never"), nullptr)->add_space_prefix);
  EXPECT_THAT(read(metaspace("always"), spell), Refused("pre_tokenizer"));
  EXPECT_THAT(read(nullptr, prepend), Refused("normalizer"));
}

}  // namespace
}  // namespace nibble::engine
