#include "engine/grammar/json_values.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/characters.h"

namespace nibble::engine::grammar {
namespace {

constexpr int64_t kMaxIndentation = 40;  // blanks after a line break

}  // namespace

JsonValues::JsonValues(Builder* builder)
    : builder_(*builder),
      space_(builder->AddRule("white space", true)),
      string_(builder->AddRule("string", true)),
      integer_(builder->AddRule("integer", true)),
      number_(builder->AddRule("number", true)),
      character_(AnyJsonCharacter(builder)),
      comma_(builder->Concat({builder->Literal(","), Space()})) {
  const ExprId blank = builder_.Alternate({builder_.Literal(" "), builder_.Literal("\t")});
  const ExprId line = builder_.Concat({builder_.Literal("\n"), builder_.Repeat(blank, 0, kMaxIndentation)});
  builder_.SetBody(space_, builder_.Alternate({builder_.Literal(" "), line}));
  builder_.SetBody(string_, StringOfLength(0, kUnbounded));
  const ExprId sign = builder_.Optional(builder_.Literal("-"));
  builder_.SetBody(integer_, builder_.Concat({sign, Whole()}));
  const ExprId fraction = builder_.Concat({builder_.Literal("."), builder_.Repeat(Digit(), 1, kJsonDigits)});
  const ExprId e = builder_.Alternate({builder_.Literal("e"), builder_.Literal("E")});
  const ExprId exponent_sign = builder_.Alternate({builder_.Empty(), builder_.Literal("+"), builder_.Literal("-")});
  const ExprId exponent = builder_.Concat({e, exponent_sign, builder_.Repeat(Digit(), 1, 2)});
  builder_.SetBody(number_, builder_.Concat({sign, Whole(), builder_.Optional(fraction), builder_.Optional(exponent)}));
}

RuleId JsonValues::AnyRule() {
  if (any_ >= 0) return any_;
  any_ = builder_.AddRule("value", true);
  const RuleId object = builder_.AddRule("object", true), array = builder_.AddRule("array", true);
  builder_.SetBody(object, Map(builder_.Call(any_), 0, kUnbounded));
  builder_.SetBody(array, List('[', ']', builder_.Call(any_), 0, kUnbounded));
  builder_.SetBody(any_,
                   builder_.Alternate({builder_.Call(object), builder_.Call(array), String(), Number(),
                                       builder_.Literal("true"), builder_.Literal("false"), builder_.Literal("null")}));
  return any_;
}

ExprId JsonValues::Quoted(ExprId content) {
  return builder_.Concat({builder_.Literal("\""), content, builder_.Literal("\"")});
}

ExprId JsonValues::StringOfLength(int64_t min, int64_t max) { return Quoted(builder_.Repeat(character_, min, max)); }

ExprId JsonValues::Whole() {
  const ExprId more = builder_.Repeat(Digit(), 0, kJsonDigits - 1);
  return builder_.Alternate({builder_.Literal("0"), builder_.Concat({builder_.ByteRange('1', '9'), more})});
}

ExprId JsonValues::IntegerWithin(int64_t min, int64_t max) {
  std::vector<ExprId> parts;
  if (max >= 0) parts.push_back(DigitsWithin(std::max<int64_t>(min, 0), max));
  if (min < 0) {
    const int64_t nearest = std::max<int64_t>(-max, 1);
    parts.push_back(builder_.Concat({builder_.Literal("-"), DigitsWithin(nearest, -min)}));
  }
  return builder_.Alternate(parts);
}

ExprId JsonValues::FractionBetween(int64_t min, int64_t max) {
  std::vector<ExprId> wholes;
  if (max >= 1 && std::max<int64_t>(min, 0) <= max - 1) {
    wholes.push_back(DigitsWithin(std::max<int64_t>(min, 0), max - 1));
  }
  if (min <= -1 && std::max<int64_t>(-max, 0) <= -min - 1) {
    wholes.push_back(builder_.Concat({builder_.Literal("-"), DigitsWithin(std::max<int64_t>(-max, 0), -min - 1)}));
  }
  const ExprId fraction = builder_.Concat(
      {builder_.Literal("."), builder_.Repeat(Digit(), 0, kJsonDigits - 1), builder_.ByteRange('1', '9')});
  return builder_.Concat({builder_.Alternate(wholes), fraction});
}

// Decimal numbers without leading zeros. REQUIRES: 0 <= min <= max.
ExprId JsonValues::DigitsWithin(int64_t min, int64_t max) {
  std::vector<ExprId> parts;
  for (int64_t first = 0, last = 9; first <= max; first = last + 1, last = 10 * last + 9) {
    if (min > last) continue;
    parts.push_back(SameLength(absl::StrCat(std::max(min, first)), absl::StrCat(std::min(max, last))));
  }
  return builder_.Alternate(parts);
}

// As text, low to high. REQUIRES: of the same length, not empty, low <= high.
ExprId JsonValues::SameLength(const std::string& low, const std::string& high) {
  const std::string low_rest = low.substr(1), high_rest = high.substr(1);
  const int64_t rest = static_cast<int64_t>(low_rest.size());
  const std::string zeros(low_rest.size(), '0'), nines(low_rest.size(), '9');
  if (low_rest == zeros && high_rest == nines) {
    const ExprId first = builder_.ByteRange(static_cast<uint8_t>(low[0]), static_cast<uint8_t>(high[0]));
    return builder_.Concat({first, builder_.Repeat(Digit(), rest, rest)});
  }
  if (low[0] == high[0]) {
    return builder_.Concat({builder_.Literal(low.substr(0, 1)), SameLength(low_rest, high_rest)});
  }
  std::vector<ExprId> parts = {builder_.Concat({builder_.Literal(low.substr(0, 1)), SameLength(low_rest, nines)}),
                               builder_.Concat({builder_.Literal(high.substr(0, 1)), SameLength(zeros, high_rest)})};
  if (low[0] + 1 < high[0]) {
    const ExprId between = builder_.ByteRange(static_cast<uint8_t>(low[0] + 1), static_cast<uint8_t>(high[0] - 1));
    parts.push_back(builder_.Concat({between, builder_.Repeat(Digit(), rest, rest)}));
  }
  return builder_.Alternate(parts);
}

ExprId JsonValues::Object(const std::vector<Member>& members) {
  // Nodes: at the first member, at a later one (something is written), and at the value, of each member.
  const int32_t count = static_cast<int32_t>(members.size());
  const auto first = [](int32_t i) { return 1 + i; };
  const auto later = [count](int32_t i) { return 2 + count + i; };
  const auto value = [count](int32_t i) { return 3 + 2 * count + i; };
  const int32_t closing = 3 + 3 * count, last = closing + 1;
  std::vector<Builder::Edge> edges = {
      {0, first(0), builder_.Concat({builder_.Literal("{"), Space()})},
      {first(count), closing, builder_.Empty()},
      {later(count), closing, Space()},
      {closing, last, builder_.Literal("}")},
  };
  for (int32_t i = 0; i < count; ++i) {
    const Member& member = members[static_cast<size_t>(i)];
    const ExprId name = builder_.Concat({JsonText(member.name, &builder_), builder_.Literal(":"), OptionalBlank()});
    edges.push_back({first(i), value(i), name});
    edges.push_back({later(i), value(i), builder_.Concat({comma_, name})});
    edges.push_back({value(i), later(i + 1), member.value});
    if (member.required) continue;
    edges.push_back({first(i), first(i + 1), builder_.Empty()});
    edges.push_back({later(i), later(i + 1), builder_.Empty()});
  }
  return builder_.Graph(last, std::move(edges));
}

ExprId JsonValues::Map(ExprId value, int64_t min, int64_t max) {
  return List('{', '}', builder_.Concat({String(), builder_.Literal(":"), OptionalBlank(), value}), min, max);
}

ExprId JsonValues::Array(const std::vector<ExprId>& prefix, std::optional<ExprId> items, int64_t min, int64_t max) {
  if (prefix.empty()) {
    return items.has_value() ? List('[', ']', *items, min, max) : List('[', ']', builder_.Empty(), 0, 0);
  }
  // Node 1 + i: i items are written.
  const int64_t prefixed = static_cast<int64_t>(prefix.size());
  const int64_t chain = max == kUnbounded || !items.has_value() ? std::max(prefixed, min) : max;
  const int32_t closing = static_cast<int32_t>(chain) + 2, last = closing + 1;
  std::vector<Builder::Edge> edges = {{0, 1, builder_.Concat({builder_.Literal("["), Space()})},
                                      {closing, last, builder_.Literal("]")}};
  ExprId more = -1;  // there may be many
  if (items.has_value()) more = builder_.Concat({comma_, *items});
  for (int64_t i = 0; i <= chain; ++i) {
    const int32_t node = static_cast<int32_t>(i) + 1;
    if (i >= min) edges.push_back({node, closing, i == 0 ? builder_.Empty() : Space()});
    const bool at_loop = i == chain;
    if (at_loop && (max != kUnbounded || !items.has_value())) break;
    if ((max != kUnbounded && i >= max) || (i >= prefixed && !items.has_value())) break;
    ExprId item = more;
    if (i < prefixed) item = prefix[static_cast<size_t>(i)];
    if (i > 0 && i < prefixed) item = builder_.Concat({comma_, item});
    edges.push_back({node, at_loop ? node : node + 1, item});
  }
  return builder_.Graph(last, std::move(edges));
}

ExprId JsonValues::List(char open, char close, ExprId item, int64_t min, int64_t max) {
  const ExprId begin = builder_.Concat({builder_.Literal(std::string(1, open)), Space()});
  const ExprId end = builder_.Literal(std::string(1, close));
  if (max == 0) return builder_.Concat({begin, end});
  const ExprId more = builder_.Repeat(builder_.Concat({comma_, item}), std::max<int64_t>(min - 1, 0),
                                      max == kUnbounded ? kUnbounded : max - 1);
  const ExprId items = builder_.Concat({item, more, Space()});
  return builder_.Concat({begin, min == 0 ? builder_.Optional(items) : items, end});
}

}  // namespace nibble::engine::grammar
