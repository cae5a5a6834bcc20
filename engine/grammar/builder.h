// A grammar while it is put together: rules whose bodies are expressions over bytes and other rules. What every
// notation (regular expression, EBNF, JSON schema, list of choices) becomes before it is compiled (automaton.h).
//
// Plain data; one thread. Expressions are named by ids and may be used in several places; each use is a copy.
#ifndef NIBBLE_ENGINE_GRAMMAR_BUILDER_H_
#define NIBBLE_ENGINE_GRAMMAR_BUILDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace nibble::engine::grammar {

using ExprId = int32_t;
using RuleId = int32_t;
inline constexpr int64_t kUnbounded = -1;

class Builder {
 public:
  enum class Kind : uint8_t { kLiteral, kByteRange, kRepeat, kRule, kGraph };
  // From node `from` to node `to` of a graph, over what `label` matches.
  struct Edge {
    int32_t from, to;
    ExprId label;
  };
  struct Expression {
    Kind kind = Kind::kLiteral;
    uint8_t low = 0, high = 0;     // kByteRange
    int64_t min = 0, max = 0;      // kRepeat; max may be kUnbounded
    int32_t child = 0;             // kRepeat: expression; kRule: rule; kGraph: the last node, which accepts
    int32_t depth = 1;             // of expressions in expressions; set by the builder
    std::string literal;           // kLiteral
    std::vector<Edge> edges = {};  // kGraph: begins in node 0
  };
  struct Rule {
    std::string name;  // for messages
    ExprId body = -1;
    bool apart = false;  // never copied into its callers: its states, and what is known of them, are shared
  };

  ExprId Literal(std::string_view bytes);
  ExprId Empty() { return Literal(""); }
  ExprId ByteRange(uint8_t low, uint8_t high);
  ExprId Concat(const std::vector<ExprId>& parts);
  // Matches nothing where there are no parts.
  ExprId Alternate(const std::vector<ExprId>& parts);
  // `max` may be kUnbounded. REQUIRES: 0 <= min, and min <= max where max is bounded.
  ExprId Repeat(ExprId part, int64_t min, int64_t max);
  ExprId Optional(ExprId part) { return Repeat(part, 0, 1); }
  ExprId Call(RuleId rule);
  // Any network of parts, read from node 0 to node `last`.
  ExprId Graph(int32_t last, std::vector<Edge> edges);

  RuleId AddRule(std::string name, bool apart = false);
  void SetBody(RuleId rule, ExprId body) { rules_[static_cast<size_t>(rule)].body = body; }

  // INVALID_ARGUMENT where more was added than kMaxExpressionSize. Who adds more than a source says asks now and then.
  absl::Status CheckSize() const;

  const Expression& expression(ExprId id) const { return expressions_[static_cast<size_t>(id)]; }
  const std::vector<Rule>& rules() const { return rules_; }

 private:
  ExprId Add(Expression expression);

  std::vector<Expression> expressions_;
  std::vector<Rule> rules_;
  int64_t size_ = 0;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_BUILDER_H_
