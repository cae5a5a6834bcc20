// A vocabulary of the 256 bytes, and readers of whole texts.
#ifndef NIBBLE_TESTS_ENGINE_GRAMMAR_BYTE_VOCABULARY_H_
#define NIBBLE_TESTS_ENGINE_GRAMMAR_BYTE_VOCABULARY_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/grammar/compiler.h"

namespace nibble::engine::grammar {

inline std::shared_ptr<Vocabulary> ByteVocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
  return std::make_shared<Vocabulary>(TokenTrie(tokens, 256), size_t{1} << 20);
}

inline absl::StatusOr<std::shared_ptr<const Grammar>> CompileBytes(Notation notation, std::string source) {
  static const auto& vocabulary = *new std::shared_ptr<Vocabulary>(ByteVocabulary());
  return CompileConstraint({notation, std::move(source), {}}, vocabulary);
}

// Whether `text` is a whole answer.
inline bool Matches(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Matcher matcher(grammar);
  for (const char byte : text) {
    if (!matcher.Accept(static_cast<uint8_t>(byte))) return false;
  }
  return matcher.CanEnd();
}

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_TESTS_ENGINE_GRAMMAR_BYTE_VOCABULARY_H_
