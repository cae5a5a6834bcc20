// Regular expressions against PCRE2, and what is refused.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include <memory>
#include <random>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/engine/grammar/byte_vocabulary.h"

namespace nibble::engine::grammar {
namespace {

// Whether PCRE2 matches the whole text.
class Reference {
 public:
  explicit Reference(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &offset, nullptr));
    EXPECT_NE(code_, nullptr) << pattern;
    data_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }
  bool Matches(const std::string& text) const {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data_.get(),
                       nullptr) > 0;
  }

 private:
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_{nullptr, pcre2_code_free};
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data_{nullptr, pcre2_match_data_free};
};

class RandomText {
 public:
  explicit RandomText(uint32_t seed) : random_(seed) {}

  std::string Expression(int depth) {
    switch (depth == 0 ? Pick(4) : Pick(10)) {
      case 0:
        return Letter();
      case 1:
        return ".";
      case 2:
        return One({"[ab]", "[^a]", "[a-cé]", "[^\\d]", "[\\w-]", "[]a]", "[-x]"}, 5);
      case 3:
        return One({"\\d", "\\w", "\\s", "\\D", "\\.", "\\n", "\\x61", "\\\\"}, 8);
      case 4:
        return "(" + Expression(depth - 1) + "|" + Expression(depth - 1) + ")";
      case 5:
        return "(?:" + Expression(depth - 1) + ")" + One({"*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"}, 8);
      case 6:
        return "(?<name" + std::to_string(names_++) + ">" + Expression(depth - 1) + ")";
      default:
        return Expression(depth - 1) + Expression(depth - 1);
    }
  }
  std::string Text() {
    std::string text;
    for (int i = Pick(7); i > 0; --i) text += Letter();
    return text;
  }

 private:
  int Pick(int count) { return static_cast<int>(random_() % static_cast<uint32_t>(count)); }
  std::string One(std::vector<std::string> from, int count) { return from[static_cast<size_t>(Pick(count))]; }
  std::string Letter() { return One({"a", "b", "c", "1", "é", "x", " ", "-"}, 8); }

  std::mt19937 random_;
  int names_ = 0;
};

TEST(Regex, MatchesWhatPcre2Matches) {
  int matched = 0;
  for (uint32_t seed = 0; seed < 600; ++seed) {
    RandomText random(seed);
    const std::string pattern = random.Expression(4);
    const auto grammar = CompileBytes(Notation::kRegex, pattern);
    ASSERT_TRUE(grammar.ok()) << pattern << ": " << grammar.status();
    const Reference reference(pattern);
    for (int i = 0; i < 100; ++i) {
      const std::string text = random.Text();
      ASSERT_EQ(Matches(*grammar, text), reference.Matches(text)) << pattern << " on '" << text << "'";
      matched += reference.Matches(text);
    }
  }
  EXPECT_GT(matched, 1000);
}

TEST(Regex, AnchorsAtTheEndsChangeNothing) {
  const auto grammar = *CompileBytes(Notation::kRegex, "^ab$|^c|d$");
  for (const char* text : {"ab", "c", "d"}) EXPECT_TRUE(Matches(grammar, text)) << text;
  for (const char* text : {"", "abc", "^ab$"}) EXPECT_FALSE(Matches(grammar, text)) << text;
}

TEST(Regex, Row9_WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> kCases[] = {
      {"(", "a ')' is missing at byte 1"},
      {"a)", "a ')' has no '(' at byte 1"},
      {"[", "ends too early at byte 1"},
      {"[]", "a class is empty at byte 1"},
      {"[b-a]", "a range is reversed at byte 4"},
      {"*", "nothing to repeat at byte 0"},
      {"a**", "nothing to repeat at byte 2"},
      {"a++", "possessive repetition is not supported at byte 2"},
      {"a{2,1}", "a repetition is reversed at byte 6"},
      {"a{1000000}", "a repetition is above 100000 at byte 8"},
      {"a{x}", "a number is missing at byte 2"},
      {"\\", "ends too early at byte 1"},
      {"(a)\\1", "\\1 is not supported at byte 5"},
      {"\\bword", "\\b is not supported at byte 2"},
      {"\\p{L}", "\\p is not supported at byte 2"},
      {"(?=a)b", "a group that is neither plain, (?:…) nor named is not supported at byte 2"},
      {"(?<!a)b", "a group that is neither plain, (?:…) nor named is not supported at byte 2"},
      {"a^b", "'^' is supported at the beginning alone at byte 1"},
      {"a$b", "'$' is supported at the end alone at byte 2"},
      {"\xff", "is no UTF-8 at byte 0"},
      {"\\uD800", "is no character at byte 6"},
      {"", "is empty"},
  };
  for (const auto& [pattern, message] : kCases) {
    const auto grammar = CompileBytes(Notation::kRegex, pattern);
    EXPECT_EQ(grammar.status(), absl::InvalidArgumentError(message)) << pattern;
  }
}

TEST(Regex, Row10_NoBacktrackingNoExplosion) {
  // Of the class that keeps a backtracking matcher busy for ever: linear here.
  const auto nested = *CompileBytes(Notation::kRegex, "(a+)+b");
  EXPECT_TRUE(Matches(nested, std::string(5000, 'a') + "b"));
  EXPECT_FALSE(Matches(nested, std::string(5000, 'a')));
  // Exponential states, or billions of copies: refused.
  for (const char* pattern :
       {"(a|b)*a(a|b){30}", "((a{1,1000}){1,1000}){1,1000}", "(.{1,300}a){1,300}", "a{99999}{1}"}) {
    EXPECT_EQ(CompileBytes(Notation::kRegex, pattern).status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  }
}

// One state alone has a hundred million transitions.
TEST(Regex, Row10_OneStateMayNotTakeTooLong) {
  std::string set = "[\\x00-\\x7f]";
  for (int i = 1; i < 900; ++i) set += "|[\\x00-\\x7f]";
  std::string pattern = "(?:(?:" + set + ")?){1000}";  // and 64 letters, so that there are as many classes of bytes
  for (char letter = '0'; letter < 'p'; ++letter) pattern += absl::StrFormat("|\\x%02x", letter);
  EXPECT_EQ(CompileBytes(Notation::kRegex, pattern).status(),
            absl::InvalidArgumentError("needs too many states: at most 131072, 4194304 transitions and 8388608 steps "
                                       "to find them"));
}

TEST(Regex, Row11_GroupsNestToTheLimit) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '(') + "a" + std::string(static_cast<size_t>(depth), ')');
  };
  EXPECT_TRUE(CompileBytes(Notation::kRegex, nested(64)).ok());
  EXPECT_EQ(CompileBytes(Notation::kRegex, nested(65)).status(),
            absl::InvalidArgumentError("groups nest deeper than 64 at byte 65"));
  EXPECT_FALSE(CompileBytes(Notation::kRegex, nested(30000)).ok());
}

}  // namespace
}  // namespace nibble::engine::grammar
