// The operators of the language on values, by Python's rules.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_ARITHMETIC_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_ARITHMETIC_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/budget.h"
#include "engine/tokenizer/jinja/value.h"

namespace nibble::engine::jinja {

// `op` is "+", "-", "*", "/", "//" or "%". INVALID_ARGUMENT for values it does not apply to, division by zero and
// integers beyond 64 bits.
absl::StatusOr<Value> Binary(std::string_view op, const Value& left, const Value& right, Budget& budget);
// `op` is "-" or "+".
absl::StatusOr<Value> Signed(std::string_view op, const Value& value);
// value[index]: undefined where there is nothing. Negative indices count from the end.
absl::StatusOr<Value> Index(const Value& value, const Value& index, Budget& budget);
// value[start:stop:step]; each bound may be undefined or none.
absl::StatusOr<Value> Slice(const Value& value, const Value& start, const Value& stop, const Value& step,
                            Budget& budget);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_ARITHMETIC_H_
