// What a vocabulary must keep, whatever file it comes from. A file at a limit is accepted, one past it is refused.
#ifndef NIBBLE_ENGINE_WEIGHTS_VOCABULARY_H_
#define NIBBLE_ENGINE_WEIGHTS_VOCABULARY_H_

#include <cstdint>
#include <string_view>

#include "absl/strings/ascii.h"

namespace nibble::engine {

inline constexpr uint64_t kMaxTokenBytes = 64 << 10;  // of one token of the vocabulary
inline constexpr uint64_t kMaxChatTemplateBytes = 1 << 20;

// Whether a token spells a byte of the SentencePiece style: <0x00> … <0xFF>.
inline bool IsByteToken(std::string_view token) {
  const auto is_digit = [](char digit) { return absl::ascii_isxdigit(static_cast<unsigned char>(digit)); };
  return token.size() == 6 && token.starts_with("<0x") && is_digit(token[3]) && is_digit(token[4]) && token[5] == '>';
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_VOCABULARY_H_
