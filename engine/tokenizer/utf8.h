// UTF-8 as Unicode defines it (no surrogates, no overlong forms, nothing above U+10FFFF). Pure functions.
#ifndef NIBBLE_ENGINE_TOKENIZER_UTF8_H_
#define NIBBLE_ENGINE_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nibble::engine {

// U+FFFD, what stands for bytes that are no character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Bytes (1 to 4) of the well-formed character at the start of `text`, or 0 if there is none.
size_t CharacterLength(std::string_view text);
// Length of the longest prefix of `text` that is well formed.
size_t ValidPrefixLength(std::string_view text);
// Whether `text`, which starts no well-formed character, could start one if more bytes followed. REQUIRES: not empty.
bool IsIncompleteCharacter(std::string_view text);
// Bytes of the maximal ill-formed part at the start of `text`, which starts no well-formed character: what one U+FFFD
// stands for. REQUIRES: not empty.
size_t IllFormedLength(std::string_view text);
// The code point at the start of `text`. REQUIRES: CharacterLength(text) > 0.
char32_t DecodeCharacter(std::string_view text);
// Appends a code point (no surrogate, at most U+10FFFF).
void AppendCharacter(char32_t character, std::string& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_UTF8_H_
