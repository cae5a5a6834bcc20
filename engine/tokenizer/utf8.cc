#include "engine/tokenizer/utf8.h"

#include <algorithm>
#include <cstring>

namespace nibble::engine {
namespace {

uint8_t ByteAt(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

// Bytes that `lead` announces; 0 for a byte that starts no character.
size_t AnnouncedLength(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 0;
}

// The range of a second byte depends on the first: this is where overlong forms and surrogates are excluded.
bool IsSecondByte(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return (second & 0xC0) == 0x80;
  }
}

// How many of the first `length` bytes, all announced by the first, are as they must be.
size_t MatchingBytes(std::string_view text, size_t length) {
  const size_t available = std::min(length, text.size());
  if (available < 2) return available;
  if (!IsSecondByte(ByteAt(text, 0), ByteAt(text, 1))) return 1;
  size_t i = 2;
  while (i < available && (ByteAt(text, i) & 0xC0) == 0x80) ++i;
  return i;
}

}  // namespace

size_t CharacterLength(std::string_view text) {
  if (text.empty()) return 0;
  const size_t length = AnnouncedLength(ByteAt(text, 0));
  return length > 0 && MatchingBytes(text, length) == length ? length : 0;
}

size_t ValidPrefixLength(std::string_view text) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight = kHighBits;
    if (text.size() - i >= sizeof(eight)) std::memcpy(&eight, text.data() + i, sizeof(eight));
    if ((eight & kHighBits) == 0) {
      i += sizeof(eight);
      continue;
    }
    const size_t length = CharacterLength(text.substr(i));
    if (length == 0) break;
    i += length;
  }
  return i;
}

bool IsIncompleteCharacter(std::string_view text) {
  const size_t length = AnnouncedLength(ByteAt(text, 0));
  return text.size() < length && MatchingBytes(text, length) == text.size();
}

size_t IllFormedLength(std::string_view text) {
  return std::max<size_t>(1, MatchingBytes(text, AnnouncedLength(ByteAt(text, 0))));
}

char32_t DecodeCharacter(std::string_view text) {
  const size_t length = AnnouncedLength(ByteAt(text, 0));
  if (length == 1) return ByteAt(text, 0);
  char32_t character = ByteAt(text, 0) & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) character = (character << 6) | (ByteAt(text, i) & 0x3F);
  return character;
}

void AppendCharacter(char32_t character, std::string& out) {
  if (character < 0x80) {
    out.push_back(static_cast<char>(character));
    return;
  }
  const int continuation_bytes = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  const int lead_mark = continuation_bytes == 1 ? 0xC0 : continuation_bytes == 2 ? 0xE0 : 0xF0;
  out.push_back(static_cast<char>(lead_mark | (character >> (6 * continuation_bytes))));
  for (int i = continuation_bytes - 1; i >= 0; --i) {
    out.push_back(static_cast<char>(0x80 | ((character >> (6 * i)) & 0x3F)));
  }
}

}  // namespace nibble::engine
