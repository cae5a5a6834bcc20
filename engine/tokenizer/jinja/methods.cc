#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/text_operations.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;

absl::Status WrongType(const Arguments& arguments) {
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", std::string(arguments.input.TypeName()), " has no such method"));
}

absl::StatusOr<const Text*> InputText(const Arguments& arguments, Budget& budget) {
  if (arguments.input.text() == nullptr) return WrongType(arguments);
  NIBBLE_RETURN_IF_ERROR(budget.Charge(arguments.input.weight() * 4));
  return arguments.input.text();
}

template <Text (*Change)(const Text&)>
Result ChangeText(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  return Value(Change(*text));
}

Result StripText(const Arguments& arguments, Budget& budget, StripSides sides) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  const Value* characters = arguments.Find(0, "chars");
  if (characters == nullptr || characters->text() == nullptr) return Value(Strip(*text, std::nullopt, sides));
  NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(text->size(), characters->text()->size()));
  return Value(Strip(*text, characters->text()->bytes(), sides));
}

Result StripBoth(const Arguments& arguments, Budget& budget) { return StripText(arguments, budget, {}); }
Result StripLeft(const Arguments& arguments, Budget& budget) { return StripText(arguments, budget, {true, false}); }
Result StripRight(const Arguments& arguments, Budget& budget) { return StripText(arguments, budget, {false, true}); }

Result ListOf(std::vector<Text> parts, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(parts.size() * sizeof(Text)));
  return MakeCheckedList(
      std::vector<Value>(std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end())), budget);
}

// `split` at a separator or, without one, at white space.
Result SplitBy(std::vector<Text> (*split)(const Text&, std::string_view, int64_t), const Arguments& arguments,
               Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  const Value* limit = arguments.Find(1, "maxsplit");
  const int64_t parts = limit != nullptr && limit->is_integer() ? limit->integer() : -1;
  const Value* separator = arguments.Find(0, "sep");
  if (separator == nullptr || separator->is_none()) return ListOf(SplitWords(*text, parts), budget);
  if (separator->text() == nullptr || separator->text()->empty()) {
    return absl::InvalidArgumentError("the separator must be a string that is not empty");
  }
  NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(text->size(), separator->text()->size()));
  NIBBLE_RETURN_IF_ERROR(budget.Charge(CountOccurrences(text->bytes(), separator->text()->bytes()) * sizeof(Text)));
  return ListOf(split(*text, separator->text()->bytes(), parts), budget);
}

Result SplitLeft(const Arguments& arguments, Budget& budget) { return SplitBy(&Split, arguments, budget); }
Result SplitRight(const Arguments& arguments, Budget& budget) { return SplitBy(&SplitFromRight, arguments, budget); }

Result Lines(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  return ListOf(SplitLines(*text), budget);
}

// Whether the text begins (or ends) with the argument or, if that is a list, with one of its elements.
Result HasAffix(const Arguments& arguments, Budget& budget, bool at_end) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  const Value* affix = arguments.Find(0, "prefix");
  if (affix == nullptr) return absl::InvalidArgumentError("a string to look for is missing");
  const std::vector<Value> affixes = affix->list() != nullptr ? affix->list()->items : std::vector<Value>{*affix};
  for (const Value& candidate : affixes) {
    if (candidate.text() == nullptr) return absl::InvalidArgumentError("the string to look for must be a string");
    const std::string& bytes = candidate.text()->bytes();
    if (bytes.size() > text->size()) continue;
    if (text->bytes().compare(at_end ? text->size() - bytes.size() : 0, bytes.size(), bytes) == 0) return Value(true);
  }
  return Value(false);
}

Result StartsWith(const Arguments& arguments, Budget& budget) { return HasAffix(arguments, budget, false); }
Result EndsWith(const Arguments& arguments, Budget& budget) { return HasAffix(arguments, budget, true); }

Result ReplaceText(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  NIBBLE_ASSIGN_OR_RETURN(const Text* from, arguments.FindText(0, "old"));
  NIBBLE_ASSIGN_OR_RETURN(const Text* to, arguments.FindText(1, "new"));
  const Value* count = arguments.Find(2, "count");
  const int64_t limit = count != nullptr && count->is_integer() ? count->integer() : -1;
  NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(text->size(), from->size()));
  const size_t occurrences = CountOccurrences(text->bytes(), from->bytes());
  NIBBLE_RETURN_IF_ERROR(budget.Charge(occurrences * sizeof(Text)));
  if (to->size() > 0 && occurrences > kMaxWorkBytes / to->size()) return budget.Charge(kMaxWorkBytes + 1);
  NIBBLE_RETURN_IF_ERROR(budget.Charge(occurrences * to->size()));
  return Value(Replace(*text, from->bytes(), *to, limit));
}

// Position in characters, or -1.
Result Find(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  NIBBLE_ASSIGN_OR_RETURN(const Text* part, arguments.FindText(0, "sub"));
  NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(text->size(), part->size()));
  const size_t at = text->bytes().find(part->bytes());
  if (at == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(CharacterOffsets(std::string_view(text->bytes()).substr(0, at)).size() - 1));
}

Result Count(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  NIBBLE_ASSIGN_OR_RETURN(const Text* part, arguments.FindText(0, "sub"));
  NIBBLE_RETURN_IF_ERROR(budget.ChargeSearch(text->size(), part->size()));
  return Value(static_cast<int64_t>(CountOccurrences(text->bytes(), part->bytes())));
}

Result JoinText(const Arguments& arguments, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(InputText(arguments, budget).status());
  if (arguments.positional.size() != 1) return absl::InvalidArgumentError("join takes one list");
  return FindFilter("join")({arguments.positional[0], {arguments.input}, {}}, budget);
}

Result IsDigits(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text* text, InputText(arguments, budget));
  return Value(!text->empty() && text->bytes().find_first_not_of("0123456789") == std::string::npos);
}

Result Items(const Arguments& arguments, Budget& budget) {
  if (arguments.input.dict() == nullptr) return WrongType(arguments);
  std::vector<Value> pairs;
  for (const auto& [key, value] : arguments.input.dict()->items) {
    NIBBLE_ASSIGN_OR_RETURN(Value pair, MakeCheckedList({key, value}, budget));
    pairs.push_back(std::move(pair));
  }
  return MakeCheckedList(std::move(pairs), budget);
}

Result Keys(const Arguments& arguments, Budget& budget) {
  if (arguments.input.dict() == nullptr) return WrongType(arguments);
  NIBBLE_ASSIGN_OR_RETURN(std::vector<Value> keys, Elements(arguments.input, budget));
  return MakeCheckedList(std::move(keys), budget);
}

Result Values(const Arguments& arguments, Budget& budget) {
  if (arguments.input.dict() == nullptr) return WrongType(arguments);
  std::vector<Value> values;
  for (const auto& item : arguments.input.dict()->items) values.push_back(item.second);
  return MakeCheckedList(std::move(values), budget);
}

Result Get(const Arguments& arguments, Budget&) {
  if (arguments.input.dict() == nullptr) return WrongType(arguments);
  NIBBLE_ASSIGN_OR_RETURN(const Text* key, arguments.FindText(0, "key"));
  const Value found = Lookup(*arguments.input.dict(), key->bytes());
  if (!found.is_undefined()) return found;
  const Value* otherwise = arguments.Find(1, "default");
  return otherwise != nullptr ? *otherwise : Value(None());
}

}  // namespace

Builtin FindMethod(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Builtin>, 21> kMethods = {{
      {"capitalize", &ChangeText<&Capitalize>},
      {"count", &Count},
      {"endswith", &EndsWith},
      {"find", &Find},
      {"get", &Get},
      {"isdigit", &IsDigits},
      {"items", &Items},
      {"join", &JoinText},
      {"keys", &Keys},
      {"lower", &ChangeText<&Lower>},
      {"lstrip", &StripLeft},
      {"replace", &ReplaceText},
      {"rsplit", &SplitRight},
      {"rstrip", &StripRight},
      {"split", &SplitLeft},
      {"splitlines", &Lines},
      {"startswith", &StartsWith},
      {"strip", &StripBoth},
      {"title", &ChangeText<&Title>},
      {"upper", &ChangeText<&Upper>},
      {"values", &Values},
  }};
  for (const auto& [method_name, method] : kMethods) {
    if (method_name == name) return method;
  }
  return nullptr;
}

}  // namespace nibble::engine::jinja
