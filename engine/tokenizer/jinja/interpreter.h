// Runs a parsed template. Thread-compatible; each rendering has its own state, so one Block serves any number of
// threads.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/ast.h"

namespace nibble::engine::jinja {

// What the template prints with `variables` as its world. INVALID_ARGUMENT for what the template itself refuses
// (raise_exception) or cannot do with these values, RESOURCE_EXHAUSTED beyond the limits of budget.h. Messages name the
// line; they quote the template, never the variables.
absl::StatusOr<Text> Render(const Block& block, const std::map<std::string, Value>& variables);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_INTERPRETER_H_
