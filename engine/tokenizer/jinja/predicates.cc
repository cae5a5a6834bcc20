#include <array>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/text_operations.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;

template <bool (*Holds)(const Value&)>
Result Is(const Arguments& arguments, Budget&) {
  return Value(Holds(arguments.input));
}

bool Defined(const Value& value) { return !value.is_undefined(); }
bool UndefinedValue(const Value& value) { return value.is_undefined(); }
bool NoneValue(const Value& value) { return value.is_none(); }
bool Boolean(const Value& value) { return value.is_bool(); }
bool True(const Value& value) { return value.is_bool() && value.Truth(); }
bool False(const Value& value) { return value.is_bool() && !value.Truth(); }
bool IntegerValue(const Value& value) { return value.is_integer(); }
bool Float(const Value& value) { return value.is_float(); }
bool Number(const Value& value) { return value.is_number(); }
bool StringValue(const Value& value) { return value.text() != nullptr; }
bool Mapping(const Value& value) { return value.dict() != nullptr; }
bool Callable(const Value& value) { return value.macro() != nullptr; }
bool Sequence(const Value& value) {
  return value.list() != nullptr || value.text() != nullptr || value.dict() != nullptr;
}
bool Iterable(const Value& value) { return Sequence(value) || value.is_undefined(); }
bool LowerCase(const Value& value) {
  const Text text = value.ToText();
  return Lower(text).bytes() == text.bytes() && Upper(text).bytes() != text.bytes();
}
bool UpperCase(const Value& value) {
  const Text text = value.ToText();
  return Upper(text).bytes() == text.bytes() && Lower(text).bytes() != text.bytes();
}

absl::StatusOr<int64_t> Remainder(const Value& value, int64_t divisor) {
  if (!value.is_number() || value.is_float()) return absl::InvalidArgumentError("the value must be an integer");
  if (divisor == 0) return absl::InvalidArgumentError("division by zero");
  return divisor == -1 ? 0 : value.integer() % divisor;
}

Result Odd(const Arguments& arguments, Budget&) {
  NIBBLE_ASSIGN_OR_RETURN(const int64_t rest, Remainder(arguments.input, 2));
  return Value(rest != 0);
}

Result Even(const Arguments& arguments, Budget&) {
  NIBBLE_ASSIGN_OR_RETURN(const int64_t rest, Remainder(arguments.input, 2));
  return Value(rest == 0);
}

Result DivisibleBy(const Arguments& arguments, Budget&) {
  const Value* divisor = arguments.Find(0, "num");
  if (divisor == nullptr || !divisor->is_integer()) return absl::InvalidArgumentError("the divisor must be an integer");
  NIBBLE_ASSIGN_OR_RETURN(const int64_t rest, Remainder(arguments.input, divisor->integer()));
  return Value(rest == 0);
}

// A comparison under another name.
Result CompareBy(std::string_view op, const Arguments& arguments, Budget& budget) {
  const Value* other = arguments.Find(0, "other");
  if (other == nullptr) return absl::InvalidArgumentError("the test needs a value to compare with");
  return Compare(op, arguments.input, *other, budget);
}

Result EqualTo(const Arguments& arguments, Budget& budget) { return CompareBy("==", arguments, budget); }
Result NotEqualTo(const Arguments& arguments, Budget& budget) { return CompareBy("!=", arguments, budget); }
Result LessThan(const Arguments& arguments, Budget& budget) { return CompareBy("<", arguments, budget); }
Result GreaterThan(const Arguments& arguments, Budget& budget) { return CompareBy(">", arguments, budget); }
Result AtMost(const Arguments& arguments, Budget& budget) { return CompareBy("<=", arguments, budget); }
Result AtLeast(const Arguments& arguments, Budget& budget) { return CompareBy(">=", arguments, budget); }
Result In(const Arguments& arguments, Budget& budget) { return CompareBy("in", arguments, budget); }

}  // namespace

Builtin FindTest(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Builtin>, 29> kTests = {{
      {"boolean", &Is<&Boolean>},
      {"callable", &Is<&Callable>},
      {"defined", &Is<&Defined>},
      {"divisibleby", &DivisibleBy},
      {"eq", &EqualTo},
      {"equalto", &EqualTo},
      {"even", &Even},
      {"false", &Is<&False>},
      {"float", &Is<&Float>},
      {"ge", &AtLeast},
      {"greaterthan", &GreaterThan},
      {"gt", &GreaterThan},
      {"in", &In},
      {"integer", &Is<&IntegerValue>},
      {"iterable", &Is<&Iterable>},
      {"le", &AtMost},
      {"lessthan", &LessThan},
      {"lower", &Is<&LowerCase>},
      {"lt", &LessThan},
      {"mapping", &Is<&Mapping>},
      {"ne", &NotEqualTo},
      {"none", &Is<&NoneValue>},
      {"number", &Is<&Number>},
      {"odd", &Odd},
      {"sequence", &Is<&Sequence>},
      {"string", &Is<&StringValue>},
      {"true", &Is<&True>},
      {"undefined", &Is<&UndefinedValue>},
      {"upper", &Is<&UpperCase>},
  }};
  for (const auto& [test_name, test] : kTests) {
    if (test_name == name) return test;
  }
  return nullptr;
}

}  // namespace nibble::engine::jinja
