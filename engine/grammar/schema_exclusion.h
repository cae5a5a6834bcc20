// What of a schema can be told without compiling it: which types it admits, and whether two schemas exclude each other.
#ifndef NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_
#define NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/grammar/schema_document.h"

namespace nibble::engine::grammar {

// The names at "type", each once, or all of them. INVALID_ARGUMENT for what names no type.
absl::StatusOr<std::vector<std::string>> TypesOf(const Schema& schema);
bool IsOfType(const Json& value, const std::string& type);
// "required", sorted, each once.
absl::StatusOr<std::vector<std::string>> RequiredNames(const Schema& schema);

// OK where no value validates against two of `branches` (the oneOf of `schema`): they differ in their types, in the
// values that they list, or in those that a property lists which they all require.
absl::Status CheckExclusive(const Json& document, const Schema& schema, const Json& branches);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_
