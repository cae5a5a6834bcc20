// Template source to a tree. Everything that is not supported is refused here, by name and line, so that a template
// that compiles lacks only what its own data lacks.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_PARSER_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_PARSER_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/jinja/ast.h"

namespace nibble::engine::jinja {

inline constexpr int kMaxNesting = 100;  // of blocks in blocks and of expressions in expressions

// INVALID_ARGUMENT for broken syntax or too deep nesting, UNIMPLEMENTED for a construct, filter, test or method that is
// not supported.
absl::StatusOr<Block> Parse(std::string_view source);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_PARSER_H_
