// Choices, EBNF and the cache of compiled grammars.
#include "engine/grammar/compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/grammar/limits.h"
#include "engine/tokenizer/utf8.h"
#include "tests/engine/grammar/byte_vocabulary.h"

namespace nibble::engine::grammar {
namespace {

absl::StatusOr<std::shared_ptr<const Grammar>> Choose(std::vector<std::string> choices) {
  return CompileConstraint({Notation::kChoice, "", std::move(choices)}, ByteVocabulary());
}

absl::Status EbnfStatus(std::string source) { return CompileBytes(Notation::kEbnf, std::move(source)).status(); }

TEST(Choice, IsOneOfTheTexts) {
  const auto grammar = *Choose({"yes", "yes, but", "nö"});
  for (const char* text : {"yes", "yes, but", "nö"}) EXPECT_TRUE(Matches(grammar, text)) << text;
  for (const char* text : {"", "no", "yes,", "yesyes"}) EXPECT_FALSE(Matches(grammar, text)) << text;
}

TEST(Choice, Row9_NeedsSomethingToChoose) {
  EXPECT_EQ(Choose({}).status(), absl::InvalidArgumentError("lists nothing"));
  EXPECT_EQ(Choose({"a", ""}).status(), absl::InvalidArgumentError("lists an empty text"));
}

TEST(Ebnf, RulesCallEachOther) {
  const auto grammar = *CompileBytes(Notation::kEbnf, R"(
      root ::= sum "\n"      # one line
      sum ::= term ([-+] term)*
      term ::= [0-9]+ | '(' sum ')' |
               "x" {1,2} .?
  )");
  for (const char* text : {"1\n", "1+(2-(x-33))\n", "x\n", "xx\n", "xxé\n"})
    EXPECT_TRUE(Matches(grammar, text)) << text;
  for (const char* text : {"1", "+\n", "(1\n", "1)\n", "xxéé\n"}) EXPECT_FALSE(Matches(grammar, text)) << text;
}

TEST(Ebnf, RightRecursionIsAsLongAsTheAnswer) {
  const auto grammar = *CompileBytes(Notation::kEbnf, "root ::= [a-z] root | \".\"");
  EXPECT_TRUE(Matches(grammar, std::string(50'000, 'q') + "."));
}

TEST(Ebnf, Row9_WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> kCases[] = {
      {"", "no rule 'root'"},
      {"root ::= other", "no rule 'other'"},
      {"other ::= \"a\"", "no rule 'root'"},
      {"root \"a\"", "'::=' is missing at byte 5"},
      {"root ::= \"a", "ends too early at byte 11"},
      {"root ::= [a", "ends too early at byte 11"},
      {"root ::= (\"a\"", "a ')' is missing at byte 13"},
      {"root ::= \"a\" )", "the name of a rule is missing at byte 13"},
      {"root ::= $", "not understood at byte 9"},
      {"root ::= \"a\"\nroot ::= \"b\"", "a second rule 'root' at byte 21"},
      {"root ::= \"\\d\"", "a class is not supported in a literal at byte 12"},
      {"root ::= \"a\" root", "no text that the model can spell matches"},
  };
  for (const auto& [source, message] : kCases) {
    EXPECT_EQ(EbnfStatus(source), absl::InvalidArgumentError(message)) << source;
  }
}

TEST(Ebnf, Row11_LeftRecursionIsRefused) {
  EXPECT_EQ(EbnfStatus("root ::= root \"a\" | \"b\""),
            absl::InvalidArgumentError("the rule 'root' leads to left recursion"));
  EXPECT_FALSE(EbnfStatus("root ::= other \"a\" | \"b\"\nother ::= root | \"c\"").ok());
  // Hidden behind what may be empty.
  EXPECT_FALSE(EbnfStatus("root ::= blank root \"a\" | \"b\"\nblank ::= \" \"*").ok());
  EXPECT_TRUE(EbnfStatus("root ::= blank root \"a\" | \"b\"\nblank ::= \" \"+").ok());
}

TEST(Ebnf, Row11_DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return "root ::= " + std::string(depth, '(') + "\"a\"" + std::string(depth, ')');
  };
  EXPECT_TRUE(EbnfStatus(nested(64)).ok());
  EXPECT_EQ(EbnfStatus(nested(65)), absl::InvalidArgumentError("groups nest deeper than 64 at byte 74"));
  EXPECT_FALSE(EbnfStatus(nested(30000)).ok());
  // Chains of rules are long, not deep.
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 3000; ++i) chain += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + "\n";
  EXPECT_TRUE(EbnfStatus(chain + "r3000 ::= \"a\" root?").ok());
  EXPECT_TRUE(EbnfStatus(chain + "r3000 ::= \"a\"").ok());
}

TEST(Ebnf, Row10_ManySetsAreOneSetOrRefused) {
  std::string same = "root ::=", different = "root ::=";
  for (int i = 0; i < 9'000; ++i) same += " [^a].";
  for (char32_t i = 0; i < 5'000; ++i) {
    different += " [^";
    AppendCharacter(0x4E00 + i, different);
    different += "]";
  }
  EXPECT_TRUE(EbnfStatus("root ::= [^a] . [^b] .").ok());
  EXPECT_EQ(EbnfStatus(same), absl::InvalidArgumentError("is too large: more than 262144 states"));
  EXPECT_EQ(EbnfStatus(different), absl::InvalidArgumentError("is too large: more than 262144 parts"));
}

TEST(Compile, Row9_SourcesEndAtTheirLimit) {
  const std::string tail = "a";
  const std::string longest(kMaxSourceBytes - tail.size() - 4, ' ');
  EXPECT_TRUE(CompileBytes(Notation::kRegex, "(" + longest + "|" + tail + ")?").ok());
  EXPECT_EQ(CompileBytes(Notation::kRegex, "(" + longest + " |" + tail + ")?").status(),
            absl::InvalidArgumentError("longer than 65536 bytes"));
  EXPECT_EQ(Choose({std::string(kMaxSourceBytes, 'a')}).status(),
            absl::InvalidArgumentError("longer than 65536 bytes"));
  EXPECT_TRUE(Choose({std::string(kMaxSourceBytes - 1, 'a')}).ok());
}

TEST(Compile, WhatTheVocabularyCannotSpellIsNotAllowed) {
  const std::vector<std::string> tokens = {"a", "b", "ab", "abc"};  // no "c" of its own
  const auto vocabulary = std::make_shared<Vocabulary>(TokenTrie(tokens, 4), 1 << 20);
  const auto spelled = CompileConstraint({Notation::kRegex, "abc?", {}}, vocabulary);
  ASSERT_TRUE(spelled.ok());
  Matcher matcher(*spelled);
  std::vector<uint64_t> mask(1);
  ASSERT_TRUE(matcher.FillMask({}, absl::MakeSpan(mask)));
  EXPECT_EQ(mask[0], 0b101u);
  EXPECT_EQ(CompileConstraint({Notation::kRegex, "abc", {}}, vocabulary).status(),
            absl::InvalidArgumentError("no text that the model can spell matches"));
}

TokenizerData ByteTokens() {
  TokenizerData data;
  data.style = TokenizerData::Style::kSentencePiece;
  data.add_space_prefix = false;
  data.tokens = {"<unk>"};
  data.types = {TokenType::kUnknown};
  for (int byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    data.tokens.push_back(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">");
    data.types.push_back(TokenType::kByte);
  }
  data.scores.assign(data.tokens.size(), 0.0f);
  data.unknown = 0;
  return data;
}

TEST(CompilerCache, Row12_HoldsSoManyBytesAndNoMore) {
  const auto tokenizer = Tokenizer::Create(ByteTokens());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  Compiler compiler(**tokenizer, 300, {.grammar_bytes = 256 << 10, .mask_bytes = 64 << 10});
  for (int i = 0; i < 100'000; ++i) {
    const auto grammar = compiler.Compile({Notation::kChoice, "", {std::to_string(i)}});
    ASSERT_TRUE(grammar.ok());
    ASSERT_LE(compiler.cached_bytes(), size_t{320} << 10);
  }
  EXPECT_GT(compiler.cached_bytes(), size_t{200} << 10);
}

// A value that asks the cache while it is destroyed: under the lock it would wait for itself.
struct Asks {
  explicit Asks(const ByteLru<int, Asks>* asked) : cache(asked) {}
  const ByteLru<int, Asks>* cache;
  ~Asks() { EXPECT_LE(cache->bytes(), 10u); }
};

TEST(ByteLru, DropsValuesOutsideItsLock) {
  ByteLru<int, Asks> cache(10);
  for (int i = 0; i < 10; ++i) cache.Insert(i, std::make_shared<Asks>(&cache), 6);
  EXPECT_EQ(cache.Find(0), nullptr);
  EXPECT_NE(cache.Find(9), nullptr);
  cache.Insert(10, nullptr, 10);  // none of them outlives the cache
  EXPECT_EQ(cache.Find(9), nullptr);
}

TEST(CompilerCache, EqualRequestsShareOneGrammar) {
  const auto tokenizer = Tokenizer::Create(ByteTokens());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  Compiler compiler(**tokenizer, 257);
  const auto first = *compiler.Compile({Notation::kRegex, "a", {}});
  EXPECT_EQ(*compiler.Compile({Notation::kRegex, "a", {}}), first);
  EXPECT_NE(*compiler.Compile({Notation::kEbnf, "root ::= \"a\"", {}}), first);
  EXPECT_NE(*compiler.Compile({Notation::kChoice, "", {"a", "b"}}),
            *compiler.Compile({Notation::kChoice, "", {"a1:b"}}));
}

}  // namespace
}  // namespace nibble::engine::grammar
