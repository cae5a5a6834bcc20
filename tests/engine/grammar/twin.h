// A naive twin of the matcher: every byte string up to a length that a grammar derives, by definition, and what follows
// from it. Only for grammars and vocabularies of a few bytes.
#ifndef NIBBLE_TESTS_ENGINE_GRAMMAR_TWIN_H_
#define NIBBLE_TESTS_ENGINE_GRAMMAR_TWIN_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

// The texts of at most `max_bytes` bytes that each rule derives: the least sets that satisfy the rules.
class Language {
 public:
  Language(const Builder& builder, size_t max_bytes) : builder_(builder), max_bytes_(max_bytes) {
    texts_.resize(builder.rules().size());
    for (bool grew = true; grew;) {
      grew = false;
      for (size_t rule = 0; rule < texts_.size(); ++rule) {
        const std::set<std::string> texts = Derive(builder.rules()[rule].body);
        grew = grew || texts.size() > texts_[rule].size();
        texts_[rule] = texts;
      }
    }
  }

  const std::set<std::string>& texts(RuleId rule) const { return texts_[static_cast<size_t>(rule)]; }

 private:
  using Texts = std::set<std::string>;

  Texts Join(const Texts& heads, const Texts& tails) const {
    std::vector<std::vector<const std::string*>> tails_of_size(max_bytes_ + 1);
    for (const std::string& tail : tails) tails_of_size[tail.size()].push_back(&tail);
    std::vector<std::string> joined;
    for (const std::string& head : heads) {
      for (size_t size = 0; head.size() + size <= max_bytes_; ++size) {
        for (const std::string* tail : tails_of_size[size]) joined.push_back(head + *tail);
      }
    }
    return Texts(joined.begin(), joined.end());
  }

  Texts Derive(ExprId id) const {
    const Builder::Expression& expression = builder_.expression(id);
    Texts texts;
    switch (expression.kind) {
      case Builder::Kind::kLiteral:
        if (expression.literal.size() <= max_bytes_) texts.insert(expression.literal);
        break;
      case Builder::Kind::kByteRange:
        for (int byte = expression.low; byte <= expression.high; ++byte) {
          texts.insert(std::string(1, static_cast<char>(byte)));
        }
        break;
      case Builder::Kind::kRule:
        return texts_[static_cast<size_t>(expression.child)];
      case Builder::Kind::kRepeat:
        return DeriveRepeat(expression);
      case Builder::Kind::kGraph:
        return DeriveGraph(expression);
    }
    return texts;
  }

  Texts DeriveRepeat(const Builder::Expression& expression) const {
    const Texts part = Derive(expression.child);
    Texts power = {""}, texts;
    const int64_t most =
        expression.max == kUnbounded ? expression.min + static_cast<int64_t>(max_bytes_) : expression.max;
    for (int64_t i = 0; i <= most; ++i) {
      if (i >= expression.min) texts.insert(power.begin(), power.end());
      power = Join(power, part);
    }
    return texts;
  }

  Texts DeriveGraph(const Builder::Expression& expression) const {
    std::map<int32_t, Texts> at = {{0, {""}}};
    for (bool grew = true; grew;) {
      grew = false;
      for (const Builder::Edge& edge : expression.edges) {
        const Texts more = Join(at[edge.from], Derive(edge.label));
        const size_t before = at[edge.to].size();
        at[edge.to].insert(more.begin(), more.end());
        grew = grew || at[edge.to].size() > before;
      }
    }
    return at[expression.child];
  }

  const Builder& builder_;
  const size_t max_bytes_;
  std::vector<Texts> texts_;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_TESTS_ENGINE_GRAMMAR_TWIN_H_
