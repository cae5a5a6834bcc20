// Sets of characters, and how a text spells them: as UTF-8, or as a JSON string does between its quotes.
//
// Plain values; any thread.
#ifndef NIBBLE_ENGINE_GRAMMAR_CHARACTERS_H_
#define NIBBLE_ENGINE_GRAMMAR_CHARACTERS_H_

#include <string_view>
#include <vector>

#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

// Code points without surrogates.
class CharacterSet {
 public:
  struct Range {
    char32_t low, high;  // both included
  };

  CharacterSet() = default;
  CharacterSet(std::vector<Range> ranges);
  static CharacterSet All() { return CharacterSet({{0, 0x10FFFF}}); }

  void Add(char32_t low, char32_t high) { *this = Union(CharacterSet({{low, high}})); }
  CharacterSet Union(const CharacterSet& other) const;
  CharacterSet Complement() const;
  CharacterSet Minus(const CharacterSet& other) const { return Complement().Union(other).Complement(); }

  // Ascending; neither overlapping nor adjacent.
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

enum class Spelling {
  kPlain,
  kJson,  // between the quotes of a JSON string, each character in one way: escaped only where it must be
};

// One character of the set.
ExprId OneOf(const CharacterSet& set, Spelling spelling, Builder* builder);
// One character of a JSON string, in any way that JSON has to write it.
ExprId AnyJsonCharacter(Builder* builder);
// A text as JSON has it, quotes included. REQUIRES: `text` is UTF-8.
ExprId JsonText(std::string_view text, Builder* builder);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_CHARACTERS_H_
