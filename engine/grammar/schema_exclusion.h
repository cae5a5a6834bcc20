// What of a schema can be told without compiling it: which types it admits, and whether two schemas exclude each other.
#ifndef NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_
#define NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/grammar/schema_document.h"

namespace nibble::engine::grammar {

// The names at "type", each once, or all of them. INVALID_ARGUMENT for what names no type.
absl::StatusOr<std::vector<std::string>> TypesOf(const Schema& schema);
bool IsOfType(const Json& value, const std::string& type);
// "required", sorted, each once.
absl::StatusOr<std::vector<std::string>> RequiredNames(const Schema& schema);

// Tells whether schemas of one document exclude each other. What it learns of a schema it keeps; what it compares is
// counted, over all its calls. The document must outlive it.
class Exclusion {
 public:
  explicit Exclusion(const Json& document) : document_(document) {}

  // OK where no value validates against two of `branches` (the oneOf of `schema`): they differ in their types, in the
  // values that they list, or in those that a property lists which they all require.
  absl::Status Check(const Schema& schema, const Json& branches);

 private:
  // Scalars as text, sorted, and what looking through them takes.
  struct Values {
    std::vector<std::string> texts;
    int64_t steps = 0;
  };
  struct Tag {
    std::string_view name;
    const Values* values;
  };
  struct Facts {
    const Values* listed = nullptr;  // nullptr: lists none, or others than scalars too
    bool typed = false;
    std::vector<std::string> types;  // empty: not understood
    std::vector<Tag> tags;           // of an object: properties that it requires and whose values are listed, by name
  };

  const Json* Follow(const Json* schema);
  const Json* FollowOnce(const Json* schema);
  const Values* Listed(const Json& schema);
  const Facts* FactsOf(const Json& schema);
  std::vector<Tag> TagsOf(const Json& schema);
  bool Exclude(const Facts& a, const Facts& b);
  bool ShareNone(const Values* a, const Values* b);
  bool DifferInATag(const Facts& a, const Facts& b);

  const Json& document_;
  absl::flat_hash_map<const Json*, const Json*> followed_;  // one reference
  absl::flat_hash_map<const Json*, std::unique_ptr<Values>> listed_;
  absl::flat_hash_map<const Json*, std::unique_ptr<Facts>> facts_;
  int64_t steps_ = 0;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_SCHEMA_EXCLUSION_H_
