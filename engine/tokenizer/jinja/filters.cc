#include <algorithm>
#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/text_operations.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;

absl::StatusOr<Text> InputText(const Arguments& arguments, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(arguments.input.weight() * 4));
  return arguments.input.ToText();
}

template <Text (*Map)(const Text&)>
Result MapText(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text text, InputText(arguments, budget));
  return Value(Map(text));
}

// `arguments` with the input turned to a string: for filters that do what a method of strings does.
Result AsMethod(std::string_view method, const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(Text text, InputText(arguments, budget));
  return FindMethod(method)({Value(std::move(text)), arguments.positional, arguments.named}, budget);
}

Result Trim(const Arguments& arguments, Budget& budget) { return AsMethod("strip", arguments, budget); }
Result ReplaceText(const Arguments& arguments, Budget& budget) { return AsMethod("replace", arguments, budget); }

Result String(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(Text text, InputText(arguments, budget));
  return Value(std::move(text));
}

Result Same(const Arguments& arguments, Budget&) { return arguments.input; }

Result Tojson(const Arguments& arguments, Budget& budget) {
  const Value* indent = arguments.Find(0, "indent");
  return ToJson(arguments.input, indent != nullptr && indent->is_integer() ? indent->integer() : -1, budget);
}

Result Length(const Arguments& arguments, Budget& budget) {
  const Value& input = arguments.input;
  if (input.text() != nullptr) {
    NIBBLE_RETURN_IF_ERROR(budget.Charge(input.weight()));
    return Value(static_cast<int64_t>(CharacterOffsets(input.text()->bytes()).size() - 1));
  }
  if (input.dict() != nullptr) return Value(static_cast<int64_t>(input.dict()->items.size()));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(input, budget));
  return Value(static_cast<int64_t>(elements.size()));
}

Result Default(const Arguments& arguments, Budget&) {
  const Value* otherwise = arguments.Find(0, "default_value");
  const Value* boolean = arguments.Find(1, "boolean");
  const bool by_truth = boolean != nullptr && boolean->Truth();
  const bool missing = by_truth ? !arguments.input.Truth() : arguments.input.is_undefined();
  if (!missing) return arguments.input;
  return otherwise != nullptr ? *otherwise : TrustedText("");
}

Result Join(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  const Value* separator = arguments.Find(0, "d");
  const Value* attribute = arguments.Find(1, "attribute");
  Text out;
  for (size_t i = 0; i < elements.size(); ++i) {
    Value element = elements[i];
    if (attribute != nullptr) {
      NIBBLE_ASSIGN_OR_RETURN(element, Attribute(element, attribute->ToText().bytes()));
    }
    NIBBLE_RETURN_IF_ERROR(budget.Charge(element.weight() + (separator != nullptr ? separator->weight() : 0)));
    if (i > 0 && separator != nullptr) out.Append(separator->ToText());
    out.Append(element.ToText());
  }
  return Value(std::move(out));
}

Result First(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  return elements.empty() ? Value() : elements.front();
}

Result Last(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  return elements.empty() ? Value() : elements.back();
}

Result ToList(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(std::vector<Value> elements, Elements(arguments.input, budget));
  return MakeCheckedList(std::move(elements), budget);
}

Result Reverse(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(std::vector<Value> elements, Elements(arguments.input, budget));
  std::reverse(elements.begin(), elements.end());
  if (arguments.input.text() == nullptr) return MakeCheckedList(std::move(elements), budget);
  Text text;
  for (const Value& element : elements) text.Append(*element.text());
  return Value(std::move(text));
}

Result Unique(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  std::vector<Value> kept;
  for (const Value& element : elements) {
    NIBBLE_RETURN_IF_ERROR(budget.Charge(element.weight() * (kept.size() + 1)));
    const auto same = [&](const Value& other) { return Equal(element, other); };
    if (std::none_of(kept.begin(), kept.end(), same)) kept.push_back(element);
  }
  return MakeCheckedList(std::move(kept), budget);
}

Result Items(const Arguments& arguments, Budget& budget) {
  if (arguments.input.is_undefined()) return MakeCheckedList({}, budget);
  return FindMethod("items")(arguments, budget);
}

Result Integer(const Arguments& arguments, Budget&) {
  const Value& input = arguments.input;
  if (input.is_number() && !input.is_float()) return Value(input.integer());
  int64_t integer = 0;
  double number = 0;
  if (input.text() != nullptr && absl::SimpleAtoi(input.text()->bytes(), &integer)) return Value(integer);
  const bool parsed = input.text() != nullptr && absl::SimpleAtod(input.text()->bytes(), &number);
  if (input.is_float()) number = input.number();
  if ((parsed || input.is_float()) && number > -9e18 && number < 9e18) return Value(static_cast<int64_t>(number));
  const Value* otherwise = arguments.Find(0, "default");
  return otherwise != nullptr ? *otherwise : Value(int64_t{0});
}

Result Absolute(const Arguments& arguments, Budget&) {
  const Value& input = arguments.input;
  if (!input.is_number()) return absl::InvalidArgumentError("abs of something that is no number");
  if (input.is_float()) return Value(input.number() < 0 ? -input.number() : input.number());
  if (input.integer() == INT64_MIN) return absl::InvalidArgumentError("number is out of range");
  return Value(input.integer() < 0 ? -input.integer() : input.integer());
}

Result Indent(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const Text text, InputText(arguments, budget));
  const Value* width = arguments.Find(0, "width");
  const int64_t spaces = width != nullptr && width->is_integer() ? width->integer() : 4;
  if (spaces < 0 || spaces > 64) return absl::InvalidArgumentError("indent of more than 64 spaces");
  const Value* first = arguments.Find(1, "first");
  const std::string margin(static_cast<size_t>(spaces), ' ');
  NIBBLE_RETURN_IF_ERROR(budget.Charge(CountOccurrences(text.bytes(), "\n") * margin.size()));
  Text out;
  const std::vector<Text> lines = Split(text, "\n", -1);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append("\n", true);
    const bool indented = i == 0 ? first != nullptr && first->Truth() : !lines[i].empty();
    if (indented) out.Append(margin, true);
    out.Append(lines[i]);
  }
  return Value(std::move(out));
}

// The test named at `index` and its arguments, on `value`; truth where none is named.
absl::StatusOr<bool> Passes(const Value& value, const Arguments& arguments, size_t index, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Step());
  if (arguments.positional.size() <= index) return value.Truth();
  const std::string name = arguments.positional[index].ToText().bytes();
  const Builtin test = FindTest(name);
  if (test == nullptr) return absl::UnimplementedError(absl::StrCat("the test \"", name, "\" is not supported"));
  Arguments test_arguments{value, {}, {}};
  const auto rest = arguments.positional.begin() + static_cast<ptrdiff_t>(index) + 1;
  test_arguments.positional.assign(rest, arguments.positional.end());
  NIBBLE_ASSIGN_OR_RETURN(const Value result, test(test_arguments, budget));
  return result.Truth();
}

template <bool kAttribute, bool kKeep>
Result SelectBy(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  if (kAttribute && arguments.positional.empty()) return absl::InvalidArgumentError("an attribute must be named");
  std::vector<Value> kept;
  for (const Value& element : elements) {
    Value tested = element;
    if (kAttribute) {
      NIBBLE_ASSIGN_OR_RETURN(tested, Attribute(element, arguments.positional[0].ToText().bytes()));
    }
    NIBBLE_ASSIGN_OR_RETURN(const bool passes, Passes(tested, arguments, kAttribute ? 1 : 0, budget));
    if (passes == kKeep) kept.push_back(element);
  }
  return MakeCheckedList(std::move(kept), budget);
}

Result MapAttribute(const std::vector<Value>& elements, const Arguments& arguments, Budget& budget) {
  const Value* attribute = arguments.Find(arguments.positional.size(), "attribute");
  const Value* otherwise = arguments.Find(arguments.positional.size(), "default");
  std::vector<Value> mapped;
  for (const Value& element : elements) {
    NIBBLE_ASSIGN_OR_RETURN(Value value, Attribute(element, attribute->ToText().bytes()));
    mapped.push_back(value.is_undefined() && otherwise != nullptr ? *otherwise : value);
  }
  return MakeCheckedList(std::move(mapped), budget);
}

Result Map(const Arguments& arguments, Budget& budget) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, Elements(arguments.input, budget));
  if (arguments.Find(arguments.positional.size(), "attribute") != nullptr) {
    return MapAttribute(elements, arguments, budget);
  }
  NIBBLE_ASSIGN_OR_RETURN(const Text* name, arguments.FindText(0, "filter"));
  const Builtin filter = FindFilter(name->bytes());
  if (filter == nullptr || filter == Builtin(&Map)) {
    return absl::UnimplementedError(absl::StrCat("map by the filter \"", name->bytes(), "\" is not supported"));
  }
  std::vector<Value> mapped;
  for (const Value& element : elements) {
    NIBBLE_RETURN_IF_ERROR(budget.Step());
    Arguments rest{element, {arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named};
    NIBBLE_ASSIGN_OR_RETURN(Value value, filter(rest, budget));
    mapped.push_back(std::move(value));
  }
  return MakeCheckedList(std::move(mapped), budget);
}

}  // namespace

Builtin FindFilter(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Builtin>, 28> kFilters = {{
      {"abs", &Absolute},
      {"capitalize", &MapText<&Capitalize>},
      {"count", &Length},
      {"d", &Default},
      {"default", &Default},
      {"first", &First},
      {"indent", &Indent},
      {"int", &Integer},
      {"items", &Items},
      {"join", &Join},
      {"last", &Last},
      {"length", &Length},
      {"list", &ToList},
      {"lower", &MapText<&Lower>},
      {"map", &Map},
      {"reject", &SelectBy<false, false>},
      {"rejectattr", &SelectBy<true, false>},
      {"replace", &ReplaceText},
      {"reverse", &Reverse},
      {"safe", &Same},
      {"select", &SelectBy<false, true>},
      {"selectattr", &SelectBy<true, true>},
      {"string", &String},
      {"title", &MapText<&Title>},
      {"tojson", &Tojson},
      {"trim", &Trim},
      {"unique", &Unique},
      {"upper", &MapText<&Upper>},
  }};
  for (const auto& [filter_name, filter] : kFilters) {
    if (filter_name == name) return filter;
  }
  return nullptr;
}

}  // namespace nibble::engine::jinja
