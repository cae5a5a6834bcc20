// JSON schemas (draft 2020-12, and what earlier drafts call the same): the answers are JSON that validates.
//
// The grammar may be narrower than the schema, never wider: members come in the schema's order; an object that lists
// its properties has no others; numbers have at most kJsonDigits digits on each side of the point (json_values.h). What
// would make an answer wrong if it were passed over is refused by name; annotations and unknown words are passed over.
//
// type, enum, const, $ref within the document (recursive ones too), $defs, anyOf, oneOf of branches that exclude each
// other, allOf of one; properties, required, additionalProperties, minProperties 0 or 1, maxProperties; items,
// prefixItems, minItems, maxItems; minLength, maxLength, pattern, format (date, time, date-time, uuid, ipv4, email);
// minimum, maximum, exclusiveMinimum, exclusiveMaximum.
#ifndef NIBBLE_ENGINE_GRAMMAR_JSON_SCHEMA_H_
#define NIBBLE_ENGINE_GRAMMAR_JSON_SCHEMA_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

// The rule of the whole document. INVALID_ARGUMENT says what is wrong, and where in the schema ("$.properties.age"): no
// JSON, nested deeper than kMaxDepth, or a schema that is not supported or that nothing validates against.
absl::StatusOr<RuleId> ParseJsonSchema(std::string_view source, Builder* builder);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_JSON_SCHEMA_H_
