#include "engine/tokenizer/jinja/text_operations.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "engine/tokenizer/utf8.h"

namespace nibble::engine::jinja {
namespace {

// Python's str.isspace.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsSpaceAt(std::string_view character) {
  return CharacterLength(character) > 0 && IsSpace(DecodeCharacter(character));
}

char UpperByte(char byte) { return absl::ascii_toupper(static_cast<unsigned char>(byte)); }
char LowerByte(char byte) { return absl::ascii_tolower(static_cast<unsigned char>(byte)); }
bool IsLetter(char byte) { return absl::ascii_isalpha(static_cast<unsigned char>(byte)); }

}  // namespace

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += std::max<size_t>(1, CharacterLength(text.substr(at)))) {
    offsets.push_back(at);
  }
  offsets.push_back(text.size());
  return offsets;
}

Text Strip(const Text& text, std::optional<std::string_view> characters, StripSides sides) {
  const std::string_view bytes = text.bytes();
  const std::vector<size_t> offsets = CharacterOffsets(bytes);
  const auto goes = [&](size_t i) {
    const std::string_view character = bytes.substr(offsets[i], offsets[i + 1] - offsets[i]);
    return characters.has_value() ? characters->find(character) != characters->npos : IsSpaceAt(character);
  };
  size_t begin = 0, end = offsets.size() - 1;
  while (sides.left && begin < end && goes(begin)) ++begin;
  while (sides.right && end > begin && goes(end - 1)) --end;
  return text.Slice(offsets[begin], offsets[end]);
}

std::vector<Text> Split(const Text& text, std::string_view separator, int64_t limit) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> parts;
  size_t begin = 0;
  for (size_t at = bytes.find(separator); at != bytes.npos && limit != 0; --limit) {
    parts.push_back(text.Slice(begin, at));
    begin = at + separator.size();
    at = bytes.find(separator, begin);
  }
  parts.push_back(text.Slice(begin, bytes.size()));
  return parts;
}

std::vector<Text> SplitFromRight(const Text& text, std::string_view separator, int64_t limit) {
  const std::string_view bytes = text.bytes();
  std::vector<Text> parts;
  size_t end = bytes.size();
  for (; limit != 0 && end >= separator.size(); --limit) {
    const size_t at = bytes.rfind(separator, end - separator.size());
    if (at == bytes.npos) break;
    parts.push_back(text.Slice(at + separator.size(), end));
    end = at;
  }
  parts.push_back(text.Slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Text> SplitWords(const Text& text, int64_t limit) {
  const std::string_view bytes = text.bytes();
  const std::vector<size_t> offsets = CharacterOffsets(bytes);
  const size_t count = offsets.size() - 1;
  const auto space = [&](size_t i) { return IsSpaceAt(bytes.substr(offsets[i])); };
  std::vector<Text> parts;
  for (size_t i = 0; i < count;) {
    while (i < count && space(i)) ++i;
    size_t end = i;
    while (end < count && !space(end)) ++end;
    if (limit-- == 0) end = count;
    if (end > i) parts.push_back(text.Slice(offsets[i], offsets[end]));
    i = end;
  }
  return parts;
}

std::vector<Text> SplitLines(const Text& text) {
  std::vector<Text> lines = Split(text, "\n", -1);
  if (lines.back().empty()) lines.pop_back();
  for (Text& line : lines) {
    if (!line.empty() && line.bytes().back() == '\r') line = line.Slice(0, line.size() - 1);
  }
  return lines;
}

Text Replace(const Text& text, std::string_view from, const Text& to, int64_t limit) {
  if (from.empty()) return text;
  const std::vector<Text> parts = Split(text, from, limit);
  Text result = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    result.Append(to);
    result.Append(parts[i]);
  }
  return result;
}

size_t CountOccurrences(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
    if (part.empty()) return text.size() + 1;
    ++count;
  }
  return count;
}

Text Upper(const Text& text) { return text.MapBytes(UpperByte); }
Text Lower(const Text& text) { return text.MapBytes(LowerByte); }

Text Capitalize(const Text& text) {
  bool first = true;
  return text.MapBytes([&](char byte) { return std::exchange(first, false) ? UpperByte(byte) : LowerByte(byte); });
}

Text Title(const Text& text) {
  bool in_word = false;
  return text.MapBytes([&](char byte) {
    const bool continues = std::exchange(in_word, IsLetter(byte));
    return continues ? LowerByte(byte) : UpperByte(byte);
  });
}

}  // namespace nibble::engine::jinja
