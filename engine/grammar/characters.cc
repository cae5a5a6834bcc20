#include "engine/grammar/characters.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/tokenizer/utf8.h"

namespace nibble::engine::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF, kLast = 0x10FFFF;

std::string Encode(char32_t point) {
  std::string bytes;
  AppendCharacter(point, bytes);
  return bytes;
}

// Characters [low, high] of one encoded length: one part where the bytes behind the first are free to vary, and a few
// parts else (as in RE2 and Lucene).
void AddRange(char32_t low, char32_t high, std::vector<ExprId>* parts, Builder* builder) {
  const std::string first = Encode(low), last = Encode(high);
  for (size_t i = 1; i < first.size(); ++i) {
    const char32_t rest = (char32_t{1} << (6 * (first.size() - i))) - 1;
    if ((low & ~rest) == (high & ~rest)) continue;
    if ((low & rest) != 0) {
      AddRange(low, low | rest, parts, builder);
      return AddRange((low | rest) + 1, high, parts, builder);
    }
    if ((high & rest) != rest) {
      AddRange(low, (high & ~rest) - 1, parts, builder);
      return AddRange(high & ~rest, high, parts, builder);
    }
  }
  std::vector<ExprId> bytes;
  for (size_t i = 0; i < first.size(); ++i) {
    bytes.push_back(builder->ByteRange(static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i])));
  }
  parts->push_back(builder->Concat(bytes));
}

void AddUtf8(const CharacterSet& set, std::vector<ExprId>* parts, Builder* builder) {
  for (const CharacterSet::Range& range : set.ranges()) {
    char32_t low = range.low;
    for (const char32_t length_end : {char32_t{0x7F}, char32_t{0x7FF}, char32_t{0xFFFF}, kLast}) {
      const char32_t high = std::min(range.high, length_end);
      if (low > high) continue;
      AddRange(low, high, parts, builder);
      low = high + 1;
    }
  }
}

// What a JSON string escapes.
CharacterSet Escaped() { return CharacterSet({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}); }

std::string JsonEscape(char32_t point) {
  constexpr std::pair<char32_t, char> kShort[] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                                                  {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};
  for (const auto& [from, to] : kShort) {
    if (point == from) return std::string("\\") + to;
  }
  return absl::StrFormat("\\u%04x", static_cast<uint32_t>(point));
}

}  // namespace

CharacterSet::CharacterSet(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.low < b.low; });
  const auto add = [this](char32_t low, char32_t high) {
    if (low > high) return;
    if (!ranges_.empty() && low <= ranges_.back().high + 1) {
      ranges_.back().high = std::max(ranges_.back().high, high);
    } else {
      ranges_.push_back({low, high});
    }
  };
  for (const Range& range : ranges) {
    add(range.low, std::min<char32_t>(range.high, kFirstSurrogate - 1));
    add(std::max<char32_t>(range.low, kLastSurrogate + 1), std::min(range.high, kLast));
  }
}

CharacterSet CharacterSet::Union(const CharacterSet& other) const {
  std::vector<Range> ranges = ranges_;
  ranges.insert(ranges.end(), other.ranges_.begin(), other.ranges_.end());
  return CharacterSet(std::move(ranges));
}

CharacterSet CharacterSet::Complement() const {
  std::vector<Range> ranges;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.low > next) ranges.push_back({next, range.low - 1});
    next = range.high + 1;
  }
  if (next <= kLast) ranges.push_back({next, kLast});
  return CharacterSet(std::move(ranges));
}

ExprId OneOf(const CharacterSet& set, Spelling spelling, Builder* builder) {
  std::vector<ExprId> parts;
  if (spelling == Spelling::kPlain) {
    AddUtf8(set, &parts, builder);
    return builder->Alternate(parts);
  }
  AddUtf8(set.Minus(Escaped()), &parts, builder);
  const CharacterSet escaped = set.Minus(Escaped().Complement());
  for (const CharacterSet::Range& range : escaped.ranges()) {
    for (char32_t point = range.low; point <= range.high; ++point) parts.push_back(builder->Literal(JsonEscape(point)));
  }
  return builder->Alternate(parts);
}

// Written out as a network, because a schema repeats it up to maxLength times.
ExprId AnyJsonCharacter(Builder* builder) {
  enum Node {
    kBegin,
    kEnd,
    kLast1,
    kLast2,
    kLast3,
    kE0,
    kED,
    kF0,
    kF4,
    kEscape,
    kHex4,
    kHex3,
    kHex2,
    kHex1,
    kHexD,
    kPair3,
    kPair2,
    kPairEscape,
    kPairU,
    kPairD,
    kPairLow
  };
  std::vector<Builder::Edge> edges;
  const auto add = [&](Node from, Node to, int low, int high) {
    edges.push_back({from, to, builder->ByteRange(static_cast<uint8_t>(low), static_cast<uint8_t>(high))});
  };
  const auto add_hex = [&](Node from, Node to, char low, char high) {  // a digit, or a letter in either case
    add(from, to, low, high);
    if (low >= 'a') add(from, to, low - 'a' + 'A', high - 'a' + 'A');
  };
  const auto add_any_hex = [&](Node from, Node to) {
    add_hex(from, to, '0', '9');
    add_hex(from, to, 'a', 'f');
  };
  // UTF-8 (Unicode 15, table 3-7) but for what JSON escapes.
  add(kBegin, kEnd, 0x20, 0x21);
  add(kBegin, kEnd, 0x23, 0x5B);
  add(kBegin, kEnd, 0x5D, 0x7F);
  add(kBegin, kLast1, 0xC2, 0xDF);
  add(kBegin, kE0, 0xE0, 0xE0);
  add(kBegin, kLast2, 0xE1, 0xEC);
  add(kBegin, kED, 0xED, 0xED);
  add(kBegin, kLast2, 0xEE, 0xEF);
  add(kBegin, kF0, 0xF0, 0xF0);
  add(kBegin, kLast3, 0xF1, 0xF3);
  add(kBegin, kF4, 0xF4, 0xF4);
  add(kE0, kLast1, 0xA0, 0xBF);
  add(kED, kLast1, 0x80, 0x9F);
  add(kF0, kLast2, 0x90, 0xBF);
  add(kF4, kLast2, 0x80, 0x8F);
  add(kLast3, kLast2, 0x80, 0xBF);
  add(kLast2, kLast1, 0x80, 0xBF);
  add(kLast1, kEnd, 0x80, 0xBF);
  // Escapes; \uXXXX is no surrogate or a pair of them.
  add(kBegin, kEscape, '\\', '\\');
  for (const char escape : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) add(kEscape, kEnd, escape, escape);
  add(kEscape, kHex4, 'u', 'u');
  add_hex(kHex4, kHex3, '0', '9');
  add_hex(kHex4, kHex3, 'a', 'c');
  add_hex(kHex4, kHex3, 'e', 'f');
  add_hex(kHex4, kHexD, 'd', 'd');
  add_hex(kHexD, kHex2, '0', '7');
  add_any_hex(kHex3, kHex2);
  add_any_hex(kHex2, kHex1);
  add_any_hex(kHex1, kEnd);
  add_hex(kHexD, kPair3, '8', '9');
  add_hex(kHexD, kPair3, 'a', 'b');
  add_any_hex(kPair3, kPair2);
  add_any_hex(kPair2, kPairEscape);
  add(kPairEscape, kPairU, '\\', '\\');
  add(kPairU, kPairD, 'u', 'u');
  add_hex(kPairD, kPairLow, 'd', 'd');
  add_hex(kPairLow, kHex2, 'c', 'f');
  return builder->Graph(kEnd, std::move(edges));
}

ExprId JsonText(std::string_view text, Builder* builder) { return builder->Literal(nlohmann::json(text).dump()); }

}  // namespace nibble::engine::grammar
