#include "engine/grammar/builder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"

namespace nibble::engine::grammar {

ExprId Builder::Add(Expression expression) {
  const auto contain = [&](ExprId child) {
    expression.depth = std::max(expression.depth, this->expression(child).depth + 1);
  };
  if (expression.kind == Kind::kRepeat) contain(expression.child);
  for (const Edge& edge : expression.edges) contain(edge.label);
  size_ += 1 + static_cast<int64_t>(expression.edges.size() + expression.literal.size());
  expressions_.push_back(std::move(expression));
  return static_cast<ExprId>(expressions_.size()) - 1;
}

absl::Status Builder::CheckSize() const {
  if (size_ <= kMaxExpressionSize) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("is too large: more than ", kMaxExpressionSize, " parts"));
}

ExprId Builder::Literal(std::string_view bytes) { return Add({.kind = Kind::kLiteral, .literal = std::string(bytes)}); }

ExprId Builder::ByteRange(uint8_t low, uint8_t high) {
  return Add({.kind = Kind::kByteRange, .low = low, .high = high, .literal = {}});
}

ExprId Builder::Concat(const std::vector<ExprId>& parts) {
  if (parts.size() == 1) return parts[0];
  std::vector<Edge> edges;
  for (int32_t i = 0; i < static_cast<int32_t>(parts.size()); ++i) {
    edges.push_back({i, i + 1, parts[static_cast<size_t>(i)]});
  }
  return Graph(static_cast<int32_t>(parts.size()), std::move(edges));
}

ExprId Builder::Alternate(const std::vector<ExprId>& parts) {
  if (parts.size() == 1) return parts[0];
  std::vector<Edge> edges;
  for (const ExprId part : parts) edges.push_back({0, 1, part});
  return Graph(1, std::move(edges));
}

ExprId Builder::Repeat(ExprId part, int64_t min, int64_t max) {
  return Add({.kind = Kind::kRepeat, .min = min, .max = max, .child = part, .literal = {}});
}

ExprId Builder::Call(RuleId rule) { return Add({.kind = Kind::kRule, .child = rule, .literal = {}}); }

ExprId Builder::Graph(int32_t last, std::vector<Edge> edges) {
  return Add({.kind = Kind::kGraph, .child = last, .literal = {}, .edges = std::move(edges)});
}

RuleId Builder::AddRule(std::string name, bool apart) {
  rules_.push_back({.name = std::move(name), .apart = apart});
  return static_cast<RuleId>(rules_.size()) - 1;
}

}  // namespace nibble::engine::grammar
