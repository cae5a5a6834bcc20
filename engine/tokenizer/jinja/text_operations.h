// What the language does with strings, by Python's rules. Positions count characters; a byte that is no UTF-8 counts as
// one. Marks of provenance stay with the bytes.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_OPERATIONS_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_OPERATIONS_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/tokenizer/jinja/text.h"

namespace nibble::engine::jinja {

// Where each character begins, and the end of the text.
std::vector<size_t> CharacterOffsets(std::string_view text);

struct StripSides {
  bool left = true;
  bool right = true;
};
// Without the characters of `characters` (nullopt: white space) at its sides.
Text Strip(const Text& text, std::optional<std::string_view> characters, StripSides sides);

// Parts between separators, at most `limit` + 1 of them (limit < 0: all). REQUIRES: `separator` is not empty.
std::vector<Text> Split(const Text& text, std::string_view separator, int64_t limit);
std::vector<Text> SplitFromRight(const Text& text, std::string_view separator, int64_t limit);
// Parts between runs of white space.
std::vector<Text> SplitWords(const Text& text, int64_t limit);
std::vector<Text> SplitLines(const Text& text);

// The first `limit` occurrences of `from` replaced (limit < 0: all). An empty `from` changes nothing.
Text Replace(const Text& text, std::string_view from, const Text& to, int64_t limit);
size_t CountOccurrences(std::string_view text, std::string_view part);

// ASCII letters only.
Text Upper(const Text& text);
Text Lower(const Text& text);
Text Capitalize(const Text& text);
Text Title(const Text& text);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_OPERATIONS_H_
