#include "engine/tokenizer/jinja/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace nibble::engine::jinja {
namespace {

// As Python prints floats: shortest digits that read back the same, and always a point or an exponent.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 400> buffer;
  const bool plain = value == 0 || (std::fabs(value) >= 1e-4 && std::fabs(value) < 1e16);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr;
  std::string text(buffer.data(), end);
  return plain && text.find('.') == text.npos ? text + ".0" : text;
}

bool EqualLists(const List& left, const List& right) {
  return std::equal(left.items.begin(), left.items.end(), right.items.begin(), right.items.end(), Equal);
}

bool EqualDicts(const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  return std::all_of(left.items.begin(), left.items.end(),
                     [&](const auto& item) { return Equal(item.second, Lookup(right, item.first->bytes())); });
}

void AppendQuoted(const Value& value, Text& out) {
  if (value.text() != nullptr) out.Append("'", true);
  out.Append(value.ToText());
  if (value.text() != nullptr) out.Append("'", true);
}

Text ListText(const List& list) {
  Text out("[", true);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.Append(", ", true);
    AppendQuoted(list.items[i], out);
  }
  out.Append("]", true);
  return out;
}

Text DictText(const Dict& dict) {
  Text out("{", true);
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out.Append(", ", true);
    AppendQuoted(dict.items[i].first, out);
    out.Append(": ", true);
    AppendQuoted(dict.items[i].second, out);
  }
  out.Append("}", true);
  return out;
}

}  // namespace

Value Value::MakeList(std::vector<Value> items) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) {
    list->depth = std::max(list->depth, item.depth() + 1);
    list->weight += item.weight();
  }
  list->items = std::move(items);
  Value value;
  value.data_ = std::shared_ptr<const List>(std::move(list));
  return value;
}

Value Value::MakeDict(DictItems items) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : items) {
    dict->depth = std::max(dict->depth, value.depth() + 1);
    dict->weight += key->size() + value.weight();
  }
  dict->items = std::move(items);
  Value value;
  value.data_ = std::shared_ptr<const Dict>(std::move(dict));
  return value;
}

bool Value::Truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (text() != nullptr) return !text()->empty();
  if (list() != nullptr) return !list()->items.empty();
  return dict() == nullptr || !dict()->items.empty();
}

Text Value::ToText() const {
  if (text() != nullptr) return *text();
  if (list() != nullptr) return ListText(*list());
  if (dict() != nullptr) return DictText(*dict());
  if (is_none()) return Text("None", true);
  if (is_bool()) return Text(integer() != 0 ? "True" : "False", true);
  if (is_integer()) return Text(absl::StrCat(integer()), true);
  if (is_float()) return Text(FloatText(number()), true);
  return is_undefined() ? Text() : Text(std::string(TypeName()), true);
}

int Value::depth() const {
  if (list() != nullptr) return list()->depth;
  return dict() != nullptr ? dict()->depth : 0;
}

size_t Value::weight() const {
  if (text() != nullptr) return text()->size() + 1;
  if (list() != nullptr) return list()->weight;
  return dict() != nullptr ? dict()->weight : 1;
}

std::string_view Value::TypeName() const {
  static constexpr std::array<std::string_view, 10> kNames = {"undefined", "none", "boolean",    "integer",   "float",
                                                              "string",    "list", "dictionary", "namespace", "macro"};
  return kNames[data_.index()];
}

Value TrustedText(std::string_view text) { return Text(std::string(text), true); }

Value Lookup(const Dict& dict, std::string_view key) {
  for (const auto& item : dict.items) {
    if (item.first->bytes() == key) return item.second;
  }
  return Value();
}

bool Equal(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.is_float() || right.is_float()) return left.number() == right.number();
    return left.integer() == right.integer();
  }
  if (left.TypeName() != right.TypeName()) return false;
  if (left.text() != nullptr) return left.text()->bytes() == right.text()->bytes();
  if (left.list() != nullptr) return EqualLists(*left.list(), *right.list());
  if (left.dict() != nullptr) return EqualDicts(*left.dict(), *right.dict());
  return left.space() == right.space() && left.macro() == right.macro();
}

}  // namespace nibble::engine::jinja
