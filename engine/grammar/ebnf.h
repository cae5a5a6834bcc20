// Grammars in the EBNF that inference engines share (llama.cpp's GBNF, XGrammar's EBNF):
//
//     root  ::= (expr "=" term "\n")+
//     expr  ::= term ([-+*/] term)*          # a comment
//     term  ::= [0-9]+ | "(" expr ")"
//
// Rules `name ::= …` in any order, the answer is `root`; literals "…" or '…' and classes […] with the escapes of
// regex.h; `.` is any character; groups ( ), |, * + ? {m} {m,} {m,n}. A rule ends where the next one begins. Recursion
// is free but for left recursion, which compiling refuses.
#ifndef NIBBLE_ENGINE_GRAMMAR_EBNF_H_
#define NIBBLE_ENGINE_GRAMMAR_EBNF_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

// The rule `root`. INVALID_ARGUMENT says what is wrong, at which byte of `source` or with which rule. Groups nest at
// most kMaxDepth deep.
absl::StatusOr<RuleId> ParseEbnf(std::string_view source, Builder* builder);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_EBNF_H_
