// JSON as grammars: the values that a schema is put together from.
//
// White space is what models write: one space, or a line break with indentation, after a bracket or comma and before a
// closing bracket; one space after a colon. It is bounded, so that no answer is lost in it. Numbers have at most
// kJsonDigits digits before and behind the point, so that every reader has the same number.
#ifndef NIBBLE_ENGINE_GRAMMAR_JSON_VALUES_H_
#define NIBBLE_ENGINE_GRAMMAR_JSON_VALUES_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

inline constexpr int kJsonDigits = 15;
inline constexpr int64_t kLargestJsonInteger = 999'999'999'999'999;

class JsonValues {
 public:
  explicit JsonValues(Builder* builder);

  ExprId Any() { return builder_.Call(AnyRule()); }
  ExprId String() { return builder_.Call(string_); }
  // Of `min` to `max` characters; max may be kUnbounded.
  ExprId StringOfLength(int64_t min, int64_t max);
  // Between quotes what `content` says, in JSON's spelling.
  ExprId Quoted(ExprId content);
  ExprId Integer() { return builder_.Call(integer_); }
  ExprId Number() { return builder_.Call(number_); }
  // Within [min, max], both within [-kLargestJsonInteger, kLargestJsonInteger]. REQUIRES: min <= max.
  ExprId IntegerWithin(int64_t min, int64_t max);
  // Numbers between min and max that have a fraction, which does not end in 0: never one of the bounds. Matches nothing
  // where min + 1 > max.
  ExprId FractionBetween(int64_t min, int64_t max);

  struct Member {
    std::string name;
    ExprId value;
    bool required;
  };
  // In the order given.
  ExprId Object(const std::vector<Member>& members);
  // Members of any name, `min` to `max` of them. REQUIRES: min is 0 or 1.
  ExprId Map(ExprId value, int64_t min, int64_t max);
  // First `prefix`, in part or whole, then more of `items`, where there may be some; `min` to `max` in all.
  ExprId Array(const std::vector<ExprId>& prefix, std::optional<ExprId> items, int64_t min, int64_t max);

 private:
  RuleId AnyRule();
  ExprId Space() { return builder_.Optional(builder_.Call(space_)); }
  ExprId OptionalBlank() { return builder_.Optional(builder_.Literal(" ")); }
  ExprId Digit() { return builder_.ByteRange('0', '9'); }
  ExprId Whole();  // the digits of a number before the point
  ExprId DigitsWithin(int64_t min, int64_t max);
  ExprId SameLength(const std::string& low, const std::string& high);
  ExprId List(char open, char close, ExprId item, int64_t min, int64_t max);

  Builder& builder_;
  const RuleId space_, string_, integer_, number_;
  RuleId any_ = -1;
  const ExprId character_, comma_;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_JSON_VALUES_H_
