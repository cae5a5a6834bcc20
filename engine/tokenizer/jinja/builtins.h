// The words of the language: filters, tests and methods, one table each (filters.cc, predicates.cc, methods.cc). To add
// one is to add a function and a row.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_BUILTINS_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_BUILTINS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/budget.h"
#include "engine/tokenizer/jinja/value.h"

namespace nibble::engine::jinja {

struct Arguments {
  Value input;  // left of the bar, "is" or dot
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `index` or of that name, or nullptr.
  const Value* Find(size_t index, std::string_view name) const;
  // The same as a string: INVALID_ARGUMENT if it is missing or none.
  absl::StatusOr<const Text*> FindText(size_t index, std::string_view name) const;
};

// Errors do not say where in the template they occurred; the interpreter adds that. A test returns a boolean.
using Builtin = absl::StatusOr<Value> (*)(const Arguments& arguments, Budget& budget);

// nullptr where there is none of that name.
Builtin FindFilter(std::string_view name);
Builtin FindTest(std::string_view name);
Builtin FindMethod(std::string_view name);

// What a loop over `value` yields: elements, characters or keys; nothing for an undefined value.
absl::StatusOr<std::vector<Value>> Elements(const Value& value, Budget& budget);
// A list no deeper than the limit.
absl::StatusOr<Value> MakeCheckedList(std::vector<Value> items, Budget& budget);
absl::StatusOr<Value> MakeCheckedDict(DictItems items, Budget& budget);
// `object`.`name` or `object`["name"]: undefined where there is none. INVALID_ARGUMENT for an undefined object.
absl::StatusOr<Value> Attribute(const Value& object, std::string_view name);
// `op` is "==", "!=", "<", "<=", ">", ">=", "in" or "not in".
absl::StatusOr<Value> Compare(std::string_view op, const Value& left, const Value& right, Budget& budget);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_BUILTINS_H_
