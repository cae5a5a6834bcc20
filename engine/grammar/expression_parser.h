// What the parsers of regular expressions and of EBNF share: alternatives, groups, sets of characters and repetition.
#ifndef NIBBLE_ENGINE_GRAMMAR_EXPRESSION_PARSER_H_
#define NIBBLE_ENGINE_GRAMMAR_EXPRESSION_PARSER_H_

#include <cstdint>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/grammar/builder.h"
#include "engine/grammar/character_reader.h"
#include "engine/grammar/characters.h"

namespace nibble::engine::grammar {

class ExpressionParser {
 protected:
  // Both must outlive the parser.
  ExpressionParser(std::string_view source, Builder* builder) : reader_(source), builder_(*builder) {}
  ~ExpressionParser() = default;

  // Up to what ends a sequence: '|', ')' or the source.
  virtual absl::StatusOr<ExprId> ParseSequence(int depth) = 0;

  absl::StatusOr<ExprId> ParseAlternatives(int depth);
  // From behind the '(' up to and with its ')'.
  absl::StatusOr<ExprId> ParseGroup(int depth);
  // One of `set`, which was read from `begin` on: one expression for all places that say the same.
  ExprId OneOfRead(size_t begin, const CharacterSet& set, Spelling spelling);
  // What says how often; false where nothing does, and then *min and *max stay as they are.
  absl::StatusOr<bool> ReadRepetition(int64_t* min, int64_t* max);

  CharacterReader reader_;
  Builder& builder_;

 private:
  absl::flat_hash_map<std::string_view, ExprId> sets_;  // by how they are written
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_EXPRESSION_PARSER_H_
