// A JSON schema as a tree, with what its readers ask of it.
#ifndef NIBBLE_ENGINE_GRAMMAR_SCHEMA_DOCUMENT_H_
#define NIBBLE_ENGINE_GRAMMAR_SCHEMA_DOCUMENT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::engine::grammar {

using Json = nlohmann::ordered_json;

// A schema and its place, for messages. A view: the document must live.
struct Schema {
  const Json* json;
  std::string path;  // "$.properties.age"; the end of it, where it is long: every rule has one

  // nullptr where there is no such word.
  const Json* Find(std::string_view word) const;
  bool Has(std::string_view word) const { return Find(word) != nullptr; }
  // The schema below a word, or below an entry of it.
  Schema Below(std::string_view word, const Json& value) const;
  // INVALID_ARGUMENT "<path>: <message>".
  absl::Status Error(std::string_view message) const;
  // A count at the word: 0 to 100,000, or `otherwise` where there is none.
  absl::StatusOr<int64_t> Count(std::string_view word, int64_t otherwise) const;
  // A number at the word. nullopt: there is none.
  absl::StatusOr<std::optional<double>> Number(std::string_view word) const;
  // A string at the word. nullopt: there is none.
  absl::StatusOr<std::optional<std::string>> Text(std::string_view word) const;
};

// INVALID_ARGUMENT where `source` is no JSON, or nests deeper than kMaxDepth.
absl::StatusOr<Json> ParseSchemaText(std::string_view source);

// What a $ref like "#/$defs/node" points at.
absl::StatusOr<const Json*> Resolve(const Json& document, std::string_view reference);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_SCHEMA_DOCUMENT_H_
