#include "tests/engine/tokenizer/golden.h"

#include <cstdio>
#include <fstream>
#include <iterator>

#include "engine/tokenizer/chat_template.h"
#include "gtest/gtest.h"

namespace nibble::engine {
namespace {

std::string HashIds(const std::vector<int32_t>& ids) {
  uint64_t hash = 0xCBF29CE484222325;
  for (int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ (static_cast<uint32_t>(id) >> shift & 0xFF)) * 0x100000001B3;
  }
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

void ExpectIds(const std::vector<int32_t>& ids, const nlohmann::json& expected, const std::string& what) {
  if (expected.contains("ids")) {
    EXPECT_EQ(ids, expected["ids"].get<std::vector<int32_t>>()) << what;
  } else {
    EXPECT_EQ(ids.size(), expected["count"].get<size_t>()) << what;
    EXPECT_EQ(HashIds(ids), expected["fnv1a"].get<std::string>()) << what;
  }
}

}  // namespace

std::string ReadGoldenText(const std::string& name) {
  const std::string path = std::string(NIBBLE_TESTS_DIR) + "/golden/tokenizer/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

nlohmann::json ReadGolden(const std::string& name) { return nlohmann::json::parse(ReadGoldenText(name + ".json")); }

TokenizerData DataFromJson(const nlohmann::json& data) {
  TokenizerData result;
  result.style = data["style"] == "llama" ? TokenizerData::Style::kSentencePiece : TokenizerData::Style::kByteLevelBpe;
  result.pre = data["pre"];
  result.tokens = data["tokens"].get<std::vector<std::string>>();
  for (const auto& type : data["types"]) result.types.push_back(static_cast<TokenType>(type.get<int>()));
  result.scores = data["scores"].get<std::vector<float>>();
  result.merges = data["merges"].get<std::vector<std::string>>();
  result.add_space_prefix = data["add_space_prefix"];
  for (size_t i = 0; i < result.types.size(); ++i) {
    if (result.types[i] == TokenType::kUnknown) result.unknown = static_cast<int32_t>(i);
  }
  return result;
}

std::unique_ptr<Tokenizer> TinyTokenizer(const std::string& name) {
  auto tokenizer = Tokenizer::Create(DataFromJson(ReadGolden("tiny-" + name)["data"]));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::map<std::string, std::string> GoldenTexts() {
  const nlohmann::json golden = ReadGolden("texts");
  auto texts = golden["texts"].get<std::map<std::string, std::string>>();
  for (const auto& [name, repeated] : golden["repeated"].items()) {
    std::string& text = texts["repeated " + name];
    for (int i = 0; i < repeated[1].get<int>(); ++i) text += repeated[0].get<std::string>();
  }
  texts["excerpt"] = ReadGoldenText("wikitext_excerpt.txt");
  return texts;
}

void ExpectEqualsReference(const Tokenizer& tokenizer, const nlohmann::json& cases) {
  const auto texts = GoldenTexts();
  ASSERT_EQ(texts.size(), cases.size());
  for (const auto& [name, text] : texts) {
    const nlohmann::json& expected = cases[name];
    ExpectIds(tokenizer.Encode(text, {.add_special = false, .parse_special = false}), expected["plain"], name);
    ExpectIds(tokenizer.Encode(text, {.add_special = false, .parse_special = true}), expected["special"],
              name + ", control tokens read");
  }
}

void ExpectRendersAsReference(const std::string& source, const nlohmann::json& rows, const nlohmann::json& golden,
                              const std::string& name) {
  const nlohmann::json& tokens = golden["tokens"];
  const auto compiled = ChatTemplate::Compile(
      source, {tokens["bos_token"], tokens["eos_token"], tokens["unk_token"], tokens["pad_token"]});
  ASSERT_TRUE(compiled.ok()) << name << ": " << compiled.status();
  size_t row = 0;
  for (const nlohmann::json& conversation : golden["conversations"]) {
    std::vector<ChatMessage> messages;
    for (const nlohmann::json& message : conversation) messages.push_back({message[0], message[1]});
    for (const bool prompt : {true, false}) {
      const nlohmann::json& expected = rows.at(row++);
      const auto segments = (*compiled)->Render(messages, prompt);
      EXPECT_EQ(segments.ok(), expected.contains("text")) << name << " row " << row << ": " << segments.status();
      if (!segments.ok() || !expected.contains("text")) continue;
      std::string text;
      for (const Segment& segment : *segments) text += segment.text;
      EXPECT_EQ(text, expected["text"].get<std::string>()) << name << " row " << row;
    }
  }
}

}  // namespace nibble::engine
