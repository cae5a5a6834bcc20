#include "engine/grammar/expression_parser.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {

absl::StatusOr<ExprId> ExpressionParser::ParseAlternatives(int depth) {
  if (depth > kMaxDepth) return reader_.Error(absl::StrCat("groups nest deeper than ", kMaxDepth));
  std::vector<ExprId> alternatives;
  do {
    NIBBLE_ASSIGN_OR_RETURN(const ExprId alternative, ParseSequence(depth));
    alternatives.push_back(alternative);
  } while (reader_.Consume("|"));
  return builder_.Alternate(alternatives);
}

absl::StatusOr<ExprId> ExpressionParser::ParseGroup(int depth) {
  NIBBLE_ASSIGN_OR_RETURN(const ExprId group, ParseAlternatives(depth + 1));
  if (!reader_.Consume(")")) return reader_.Error("a ')' is missing");
  return group;
}

ExprId ExpressionParser::OneOfRead(size_t begin, const CharacterSet& set, Spelling spelling) {
  const auto [known, is_new] = sets_.try_emplace(reader_.ReadSince(begin), -1);
  if (is_new) known->second = OneOf(set, spelling, &builder_);
  return known->second;
}

absl::StatusOr<bool> ExpressionParser::ReadRepetition(int64_t* min, int64_t* max) {
  if (reader_.Consume("{")) {
    NIBBLE_RETURN_IF_ERROR(reader_.ReadCounts(min, max));
    return true;
  }
  const bool once = reader_.Consume("?"), more = !once && reader_.Consume("+");
  if (!once && !more && !reader_.Consume("*")) return false;
  *min = more ? 1 : 0;
  *max = once ? 1 : kUnbounded;
  return true;
}

}  // namespace nibble::engine::grammar
