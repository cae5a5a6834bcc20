#include "engine/tokenizer/jinja/builtins.h"

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/text_operations.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

absl::StatusOr<bool> Contains(const Value& container, const Value& item, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(container.weight()));
  if (container.text() != nullptr) {
    if (item.text() == nullptr) return absl::InvalidArgumentError("only a string can be in a string");
    NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(container.text()->size(), item.text()->size()));
    return container.text()->bytes().find(item.text()->bytes()) != std::string::npos;
  }
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(container, budget));
  for (const Value& element : elements) {
    if (Equal(element, item)) return true;
  }
  return false;
}

// Negative, zero or positive as left is less than, equal to or greater than right.
absl::StatusOr<int> Order(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    return left.number() < right.number() ? -1 : left.number() > right.number() ? 1 : 0;
  }
  if (left.text() != nullptr && right.text() != nullptr) return left.text()->bytes().compare(right.text()->bytes());
  return absl::InvalidArgumentError(absl::StrCat("cannot order a value of type ", std::string(left.TypeName()),
                                                 " and one of type ", std::string(right.TypeName())));
}

}  // namespace

const Value* Arguments::Find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [argument_name, value] : named) {
    if (argument_name == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<const Text*> Arguments::FindText(size_t index, std::string_view name) const {
  const Value* value = Find(index, name);
  if (value != nullptr && value->text() != nullptr) return value->text();
  return absl::InvalidArgumentError(absl::StrCat("the argument \"", std::string(name), "\" must be a string"));
}

absl::StatusOr<std::vector<Value>> Elements(const Value& value, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(sizeof(Value)));
  std::vector<Value> elements;
  if (value.is_undefined()) return elements;
  if (value.list() != nullptr) {
    NIBBLE_RETURN_IF_ERROR(budget.Charge(value.list()->items.size() * sizeof(Value)));
    return value.list()->items;
  }
  if (value.dict() != nullptr) {
    NIBBLE_RETURN_IF_ERROR(budget.Charge(value.dict()->items.size() * sizeof(Value)));
    for (const auto& item : value.dict()->items) elements.push_back(item.first);
    return elements;
  }
  if (value.text() != nullptr) {
    NIBBLE_RETURN_IF_ERROR(budget.Charge(value.text()->size() * (sizeof(Value) + sizeof(Text))));
    const std::vector<size_t> offsets = CharacterOffsets(value.text()->bytes());
    for (size_t i = 0; i + 1 < offsets.size(); ++i) elements.push_back(value.text()->Slice(offsets[i], offsets[i + 1]));
    return elements;
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot go through a value of type ", std::string(value.TypeName())));
}

absl::StatusOr<Value> MakeCheckedList(std::vector<Value> items, Budget& budget) {
  Value list = Value::MakeList(std::move(items));
  if (list.depth() > kMaxValueDepth) return absl::ResourceExhaustedError("lists are nested too deep");
  NIBBLE_RETURN_IF_ERROR(budget.Charge(list.weight() + list.list()->items.size() * sizeof(Value)));
  return list;
}

absl::StatusOr<Value> MakeCheckedDict(DictItems items, Budget& budget) {
  if (items.size() > kMaxDictItems) return absl::ResourceExhaustedError("a dictionary has too many items");
  Value dict = Value::MakeDict(std::move(items));
  if (dict.depth() > kMaxValueDepth) return absl::ResourceExhaustedError("dictionaries are nested too deep");
  NIBBLE_RETURN_IF_ERROR(budget.Charge(dict.weight() + dict.dict()->items.size() * sizeof(Value)));
  return dict;
}

absl::StatusOr<Value> Attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", std::string(name), "\" of an undefined value"));
  }
  if (object.dict() != nullptr) return Lookup(*object.dict(), name);
  if (object.space() == nullptr) return Value();
  const auto found = object.space()->attributes.find(std::string(name));
  return found == object.space()->attributes.end() ? Value() : found->second;
}

absl::StatusOr<Value> Compare(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  if (op == "in" || op == "not in") {
    NIBBLE_ASSIGN_OR_RETURN(const bool contains, Contains(right, left, budget));
    return Value(contains == (op == "in"));
  }
  const bool flat = left.list() == nullptr && left.dict() == nullptr;
  NIBBLE_RETURN_IF_ERROR(budget.Charge(left.weight() * (flat ? 1 : kMaxDictItems / 2)));
  if (op == "==" || op == "!=") return Value(Equal(left, right) == (op == "=="));
  NIBBLE_ASSIGN_OR_RETURN(const int order, Order(left, right));
  if (op == "<") return Value(order < 0);
  if (op == "<=") return Value(order <= 0);
  return Value(op == ">" ? order > 0 : order >= 0);
}

}  // namespace nibble::engine::jinja
