#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/grammar/alike_states.h"
#include "engine/grammar/grammar.h"
#include "tests/engine/grammar/byte_vocabulary.h"
#include "tests/engine/grammar/twin.h"

namespace nibble::engine::grammar {
namespace {

constexpr size_t kMaxBytes = 6;  // of the texts that are compared
constexpr int32_t kEnd = 0;      // the id that ends an answer

// All texts of 1 to 3 letters of "abc" are tokens, two of them twice.
std::vector<std::string> Tokens() {
  std::vector<std::string> tokens = {""};
  std::vector<std::string> last = {""};
  for (int length = 1; length <= 3; ++length) {
    std::vector<std::string> longer;
    for (const std::string& head : last) {
      for (const char letter : {'a', 'b', 'c'}) longer.push_back(head + letter);
    }
    tokens.insert(tokens.end(), longer.begin(), longer.end());
    last = longer;
  }
  tokens.push_back("ab");
  tokens.push_back("c");
  return tokens;
}

std::shared_ptr<Vocabulary> MakeVocabulary(size_t mask_bytes = 1 << 20) {
  const std::vector<std::string> tokens = Tokens();
  return std::make_shared<Vocabulary>(TokenTrie(tokens, static_cast<int64_t>(tokens.size()) + 3), mask_bytes);
}

std::set<int32_t> Allowed(Matcher& matcher, const TokenTrie& trie) {
  std::vector<uint64_t> mask(trie.mask_words());
  EXPECT_TRUE(matcher.FillMask({kEnd}, absl::MakeSpan(mask)));
  std::set<int32_t> ids;
  for (int32_t id = 0; id < static_cast<int32_t>(64 * mask.size()); ++id) {
    if (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) ids.insert(id);
  }
  return ids;
}

class RandomGrammar {
 public:
  explicit RandomGrammar(uint32_t seed) : random_(seed) {
    const int num_rules = 1 + Pick(4);
    for (int i = 0; i < num_rules; ++i) builder_.AddRule(std::string(1, static_cast<char>('A' + i)), Pick(2) == 0);
    for (int i = 0; i < num_rules; ++i) builder_.SetBody(i, Expression(3, i));
  }

  const Builder& builder() const { return builder_; }

 private:
  int Pick(int count) { return static_cast<int>(random_() % static_cast<uint32_t>(count)); }

  // Calls of other rules come behind a letter more often than not, so that most grammars are not left-recursive.
  ExprId Expression(int depth, int rule) {
    const int num_rules = static_cast<int>(builder_.rules().size());
    switch (depth == 0 ? Pick(2) : Pick(8)) {
      case 0:
        return builder_.Literal(std::string(1, static_cast<char>('a' + Pick(3))) + (Pick(2) == 0 ? "b" : ""));
      case 1:
        return builder_.ByteRange('a', static_cast<uint8_t>('a' + Pick(3)));
      case 2:
        return builder_.Concat(
            {builder_.ByteRange('a', 'b'), builder_.Call(Pick(num_rules)), Expression(depth - 1, rule)});
      case 3:
        return builder_.Call(rule + 1 < num_rules ? rule + 1 : Pick(num_rules));
      case 4:
        return builder_.Alternate({Expression(depth - 1, rule), Expression(depth - 1, rule)});
      case 5:
        return builder_.Repeat(Expression(depth - 1, rule), Pick(2), Pick(2) == 0 ? kUnbounded : 2);
      case 6:
        return builder_.Graph(2, {{0, 1, Expression(depth - 1, rule)},
                                  {1, 0, Expression(depth - 1, rule)},
                                  {1, 2, Expression(depth - 1, rule)}});
      default:
        return builder_.Concat({Expression(depth - 1, rule), Expression(depth - 1, rule)});
    }
  }

  std::mt19937 random_;
  Builder builder_;
};

// Walks a random answer and compares, at each step, with what the language says.
void Compare(const Builder& builder, std::shared_ptr<Vocabulary> vocabulary, uint32_t seed, int* compared) {
  const auto grammar = Grammar::Compile(builder, 0, vocabulary);
  if (!grammar.ok()) return;
  const std::set<std::string> texts = Language(builder, kMaxBytes).texts(0);
  std::set<std::string> prefixes;
  for (const std::string& text : texts) {
    for (size_t size = 0; size <= text.size(); ++size) prefixes.insert(text.substr(0, size));
  }
  std::mt19937 random(seed);
  Matcher matcher(*grammar);
  const std::vector<std::string> tokens = Tokens();
  std::string text;
  while (true) {
    const std::set<int32_t> allowed = Allowed(matcher, vocabulary->trie);
    EXPECT_EQ(matcher.CanEnd(), texts.contains(text)) << text;
    EXPECT_EQ(allowed.contains(kEnd), texts.contains(text)) << text;
    std::set<int32_t> expected;
    if (texts.contains(text)) expected.insert(kEnd);
    // A prefix that the language's short texts lack may belong to a longer one: only those known are compared.
    for (int32_t id = 1; id < static_cast<int32_t>(tokens.size()); ++id) {
      const std::string longer = text + tokens[static_cast<size_t>(id)];
      Matcher fresh(*grammar);
      bool reads = true;
      for (const char byte : longer) reads = reads && fresh.Accept(byte - 'a' + 1);
      if (prefixes.contains(longer)) {
        EXPECT_TRUE(reads) << longer;
      }
      EXPECT_EQ(allowed.contains(id), reads) << longer;
      if (reads && longer.size() <= kMaxBytes) {
        EXPECT_EQ(fresh.CanEnd(), texts.contains(longer)) << longer;
      }
      if (reads) expected.insert(id);
    }
    EXPECT_EQ(allowed, expected) << text;
    EXPECT_EQ(matcher.CanGoOn(), expected.size() > expected.count(kEnd)) << text;
    EXPECT_FALSE(expected.empty()) << text;
    ++*compared;
    expected.erase(kEnd);
    if (expected.empty() || text.size() + 3 > kMaxBytes) return;
    const int32_t next = *std::next(expected.begin(), random() % expected.size());
    EXPECT_TRUE(matcher.Accept(next));
    text += tokens[static_cast<size_t>(next)];
  }
}

TEST(Matcher, AllowsWhatTheLanguageAllows) {
  const auto vocabulary = MakeVocabulary();
  int compared = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const RandomGrammar grammar(seed);
    Compare(grammar.builder(), vocabulary, seed, &compared);
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(compared, 400);
}

TEST(Matcher, AMaskThatWasDroppedIsWorkedOutAgainTheSame) {
  const auto vocabulary = MakeVocabulary(300);
  int compared = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Compare(RandomGrammar(seed).builder(), vocabulary, seed, &compared);
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(compared, 50);
}

TEST(Matcher, ATokenOfTheAnswerIsNoEndThoughItAlsoEndsAnswers) {
  Builder builder;
  const RuleId root = builder.AddRule("root");
  builder.SetBody(root, builder.Repeat(builder.Literal("a"), 2, 2));
  const auto vocabulary = MakeVocabulary();
  Matcher matcher(*Grammar::Compile(builder, root, vocabulary));
  std::vector<uint64_t> mask(vocabulary->trie.mask_words());
  EXPECT_TRUE(matcher.FillMask({1}, absl::MakeSpan(mask)));  // "a"
  EXPECT_EQ(mask[0], uint64_t{1} << 4);                      // "aa"
}

TEST(Matcher, NestingIsBoundByNothingButTheAnswer) {
  Builder builder;
  const RuleId root = builder.AddRule("root");
  builder.SetBody(root,
                  builder.Alternate({builder.Concat({builder.Literal("a"), builder.Call(root), builder.Literal("b")}),
                                     builder.Literal("c")}));
  Matcher matcher(*Grammar::Compile(builder, root, MakeVocabulary()));
  for (int i = 0; i < 20000; ++i) ASSERT_TRUE(matcher.Accept(1));
  EXPECT_TRUE(matcher.Accept(3));
  for (int i = 0; i < 20000; ++i) {
    ASSERT_FALSE(matcher.CanEnd());
    ASSERT_TRUE(matcher.Accept(2));
  }
  EXPECT_TRUE(matcher.CanEnd());
  EXPECT_FALSE(matcher.CanGoOn());
}

TEST(Matcher, AStackOfCallsEndsAtItsLimit) {
  Builder builder;
  const RuleId root = builder.AddRule("root");
  builder.SetBody(root,
                  builder.Alternate({builder.Concat({builder.Literal("a"), builder.Call(root), builder.Literal("b")}),
                                     builder.Literal("c")}));
  Matcher matcher(*Grammar::Compile(builder, root, MakeVocabulary()));
  int accepted = 0;
  while (accepted < 1'000'000 && matcher.Accept(1)) ++accepted;
  EXPECT_GT(accepted, 50'000);
  EXPECT_LT(accepted, 1'000'000);
}

// 500 rules are called at one place by as many as there were letters.
TEST(Matcher, Row10_ManyWaysToReadATextAreBounded) {
  std::string source = "root ::= \"a\"* r \"z\"\nr ::= \"a\"* \"xb\" (";
  for (int i = 0; i < 500; ++i) source += (i == 0 ? "s" : " | s") + std::to_string(i);
  source += ") \"y\"\n";
  for (int i = 0; i < 500; ++i) {
    const std::string name = "s" + std::to_string(i);
    source += name + " ::= \"c\" " + name + " \"c\" | \"d\"\n";
  }
  const auto grammar = CompileBytes(Notation::kEbnf, source);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto reads = [&](size_t letters) {
    Matcher matcher(*grammar);
    bool reads = true;
    for (const char byte : std::string(letters, 'a') + "xbcd") reads = reads && matcher.Accept(byte);
    return reads;
  };
  EXPECT_TRUE(reads(100));
  EXPECT_FALSE(reads(700));
}

TEST(AlikeStates, ABoundedRepetitionHasAsManyKindsAsATokenHasBytes) {
  Builder builder;
  const RuleId root = builder.AddRule("root");
  builder.SetBody(root, builder.Repeat(builder.ByteRange('a', 'c'), 0, 500));
  const auto automaton = Automaton::Compile(builder, root, MakeVocabulary()->trie.single_bytes());
  ASSERT_TRUE(automaton.ok()) << automaton.status();
  ASSERT_EQ(automaton->num_states(), 501);
  const auto kinds = [&](int bytes) {
    const std::vector<int32_t> alike = AlikeStates(*automaton, bytes);
    return std::set<int32_t>(alike.begin(), alike.end()).size();
  };
  EXPECT_EQ(kinds(3), 4u);  // 0, 1, 2 or more letters are left
  EXPECT_EQ(kinds(1), 2u);
  EXPECT_EQ(kinds(1000), 501u);
}

TEST(AlikeStates, Row10_CallsCount) {
  Builder builder;
  const RuleId root = builder.AddRule("root");
  std::vector<ExprId> calls;
  for (int i = 0; i < 500; ++i) {
    const RuleId rule = builder.AddRule("rule", true);
    builder.SetBody(rule, builder.Literal("b"));
    calls.push_back(builder.Call(rule));
  }
  const ExprId part = builder.Concat({builder.Literal("a"), builder.Alternate(calls)});
  builder.SetBody(root, builder.Repeat(part, 1000, 1000));
  const auto automaton = Automaton::Compile(builder, root, MakeVocabulary()->trie.single_bytes());
  ASSERT_TRUE(automaton.ok()) << automaton.status();
  ASSERT_EQ(automaton->num_calls(), 500'000);
  // More rounds over half a million calls than there are steps for: every state is for itself.
  const std::vector<int32_t> alike = AlikeStates(*automaton, 1000);
  for (size_t state = 0; state < alike.size(); ++state) ASSERT_EQ(alike[state], static_cast<int32_t>(state));
}

}  // namespace
}  // namespace nibble::engine::grammar
