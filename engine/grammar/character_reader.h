// Reads characters, escapes and character classes, which regular expressions and EBNF write alike.
#ifndef NIBBLE_ENGINE_GRAMMAR_CHARACTER_READER_H_
#define NIBBLE_ENGINE_GRAMMAR_CHARACTER_READER_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/characters.h"

namespace nibble::engine::grammar {

class CharacterReader {
 public:
  explicit CharacterReader(std::string_view source) : source_(source) {}

  bool AtEnd() const { return position_ >= source_.size(); }
  size_t position() const { return position_; }
  // The byte `ahead` of the next one, or 0.
  char Peek(size_t ahead = 0) const { return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0'; }
  // Reads `text` if it comes next.
  bool Consume(std::string_view text);
  void Skip(size_t bytes) { position_ += bytes; }
  std::string_view rest() const { return source_.substr(position_); }
  // What was read from `begin`, an earlier position(), on.
  std::string_view ReadSince(size_t begin) const { return source_.substr(begin, position_ - begin); }

  // INVALID_ARGUMENT "<message> at byte N".
  absl::Status Error(std::string_view message) const;

  // One character as it stands. Fails where the source is no UTF-8.
  absl::StatusOr<char32_t> ReadCharacter();
  // What follows a backslash, which was read: a character, or a class such as \d.
  absl::StatusOr<CharacterSet> ReadEscape();
  // What follows a `[`, which was read, up to and with its `]`.
  absl::StatusOr<CharacterSet> ReadClass();
  // {m}, {m,}, {m,n} or {,n} from behind the brace, which was read; *max is kUnbounded in the second.
  absl::Status ReadCounts(int64_t* min, int64_t* max);

 private:
  absl::StatusOr<CharacterSet> ReadClassAtom();
  absl::StatusOr<char32_t> ReadHex(size_t least_digits, size_t most_digits);
  absl::StatusOr<int64_t> ReadNumber();

  const std::string_view source_;
  size_t position_ = 0;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_CHARACTER_READER_H_
