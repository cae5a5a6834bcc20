#include "engine/grammar/character_reader.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

constexpr int64_t kMaxCount = 100'000;  // of a repetition; more states than that are refused anyway

CharacterSet One(char32_t point) { return CharacterSet({{point, point}}); }

CharacterSet Digits() { return CharacterSet({{'0', '9'}}); }
CharacterSet WordCharacters() { return CharacterSet({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}); }
CharacterSet Spaces() {
  return CharacterSet({{'\t', '\r'},
                       {' ', ' '},
                       {0xA0, 0xA0},
                       {0x1680, 0x1680},
                       {0x2000, 0x200A},
                       {0x2028, 0x2029},
                       {0x202F, 0x202F},
                       {0x205F, 0x205F},
                       {0x3000, 0x3000},
                       {0xFEFF, 0xFEFF}});
}

}  // namespace

bool CharacterReader::Consume(std::string_view text) {
  if (!rest().starts_with(text)) return false;
  position_ += text.size();
  return true;
}

absl::Status CharacterReader::Error(std::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat(std::string(message), " at byte ", position_));
}

absl::StatusOr<char32_t> CharacterReader::ReadCharacter() {
  const size_t length = CharacterLength(rest());
  if (length == 0) return Error(AtEnd() ? "ends too early" : "is no UTF-8");
  const char32_t point = DecodeCharacter(rest());
  position_ += length;
  return point;
}

absl::StatusOr<char32_t> CharacterReader::ReadHex(size_t least_digits, size_t most_digits) {
  char32_t value = 0;
  size_t digits = 0;
  for (; digits < most_digits && absl::ascii_isxdigit(static_cast<unsigned char>(Peek())); ++digits) {
    const char digit = absl::ascii_tolower(static_cast<unsigned char>(Peek()));
    value = value * 16 + static_cast<char32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    ++position_;
  }
  if (digits < least_digits) return Error("too few hexadecimal digits");
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return Error("is no character");
  return value;
}

absl::StatusOr<CharacterSet> CharacterReader::ReadEscape() {
  const char kind = Peek();
  NIBBLE_ASSIGN_OR_RETURN(const char32_t literal, ReadCharacter());
  switch (kind) {
    case 'd':
      return Digits();
    case 'D':
      return Digits().Complement();
    case 'w':
      return WordCharacters();
    case 'W':
      return WordCharacters().Complement();
    case 's':
      return Spaces();
    case 'S':
      return Spaces().Complement();
    case 't':
      return One('\t');
    case 'n':
      return One('\n');
    case 'r':
      return One('\r');
    case 'f':
      return One('\f');
    case 'v':
      return One('\v');
    case '0':
      return One(0);
    case 'x':
    case 'u': {
      const bool braced = Consume("{");
      const size_t digits = kind == 'x' ? 2 : 4;
      NIBBLE_ASSIGN_OR_RETURN(const char32_t point, ReadHex(braced ? 1 : digits, braced ? 6 : digits));
      if (braced && !Consume("}")) return Error("'}' is missing");
      return One(point);
    }
    default:
      break;
  }
  if (absl::ascii_isalnum(static_cast<unsigned char>(kind))) {
    return Error(absl::StrCat("\\", std::string(1, kind), " is not supported"));
  }
  return One(literal);
}

// A character or an escape, within a class.
absl::StatusOr<CharacterSet> CharacterReader::ReadClassAtom() {
  if (Consume("\\b")) return One('\b');
  if (Consume("\\")) return ReadEscape();
  if (rest().starts_with("[:")) return Error("[: is not supported");
  NIBBLE_ASSIGN_OR_RETURN(const char32_t point, ReadCharacter());
  return One(point);
}

absl::StatusOr<CharacterSet> CharacterReader::ReadClass() {
  const bool negated = Consume("^");
  std::vector<CharacterSet::Range> ranges;
  for (bool first = true; first || Peek() != ']'; first = false) {
    if (first && Peek() == ']') return Error("a class is empty");
    NIBBLE_ASSIGN_OR_RETURN(const CharacterSet low, ReadClassAtom());
    if (Peek() != '-' || Peek(1) == ']') {
      ranges.insert(ranges.end(), low.ranges().begin(), low.ranges().end());
      continue;
    }
    Skip(1);
    NIBBLE_ASSIGN_OR_RETURN(const CharacterSet high, ReadClassAtom());
    const auto is_one = [](const CharacterSet& set) {
      return set.ranges().size() == 1 && set.ranges()[0].low == set.ranges()[0].high;
    };
    if (!is_one(low) || !is_one(high) || low.ranges()[0].low > high.ranges()[0].low)
      return Error("a range is reversed");
    ranges.push_back({low.ranges()[0].low, high.ranges()[0].low});
  }
  Skip(1);
  const CharacterSet set(std::move(ranges));
  return negated ? set.Complement() : set;
}

absl::StatusOr<int64_t> CharacterReader::ReadNumber() {
  int64_t value = 0;
  if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return Error("a number is missing");
  for (; absl::ascii_isdigit(static_cast<unsigned char>(Peek())); ++position_) {
    value = value * 10 + (Peek() - '0');
    if (value > kMaxCount) return Error(absl::StrCat("a repetition is above ", kMaxCount));
  }
  return value;
}

absl::Status CharacterReader::ReadCounts(int64_t* min, int64_t* max) {
  *min = 0;
  if (Peek() != ',') {
    NIBBLE_ASSIGN_OR_RETURN(*min, ReadNumber());
  }
  *max = *min;
  if (Consume(",")) {
    *max = kUnbounded;
    if (Peek() != '}') {
      NIBBLE_ASSIGN_OR_RETURN(*max, ReadNumber());
    }
  }
  if (!Consume("}")) return Error("'}' is missing");
  if (*max != kUnbounded && *max < *min) return Error("a repetition is reversed");
  return absl::OkStatus();
}

}  // namespace nibble::engine::grammar
