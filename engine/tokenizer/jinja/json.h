// A value as JSON text, with Python's json.dumps spacing and non-ASCII characters as they are.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_JSON_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_JSON_H_

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/budget.h"
#include "engine/tokenizer/jinja/value.h"

namespace nibble::engine::jinja {

// `indent` < 0: on one line. INVALID_ARGUMENT for a value that JSON lacks. What comes from a client stays marked so.
absl::StatusOr<Value> ToJson(const Value& value, int64_t indent, Budget& budget);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_JSON_H_
