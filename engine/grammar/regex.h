// Regular expressions, in the syntax that ECMA-262, Python and PCRE share: what they match is what an answer must be.
//
// Alternation, groups, classes, `.` (any character but a line feed), \d \w \s and their complements (ASCII digits and
// letters, Unicode spaces), \t \n \r \f \v \0 \xHH \uHHHH \u{H…} and escaped punctuation, * + ? {m} {m,} {m,n}, and
// these with a `?` behind them, which changes nothing here. `^` and `$` at the ends of the expression or of its
// alternatives. Refused by name: look-around, back references, \b, \B, \p, possessive repetition, modifiers.
#ifndef NIBBLE_ENGINE_GRAMMAR_REGEX_H_
#define NIBBLE_ENGINE_GRAMMAR_REGEX_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/builder.h"
#include "engine/grammar/characters.h"

namespace nibble::engine::grammar {

enum class Match {
  kWhole,      // the text is what the expression says
  kSomewhere,  // the text holds it, as JSON schema's `pattern`; where it is anchored, at that end
};

// INVALID_ARGUMENT says what is wrong, at which byte of `source`. Groups nest at most kMaxDepth deep.
absl::StatusOr<ExprId> ParseRegex(std::string_view source, Match match, Spelling spelling, Builder* builder);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_REGEX_H_
