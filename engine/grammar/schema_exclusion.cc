#include "engine/grammar/schema_exclusion.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

constexpr const char* kTypes[] = {"object", "array", "string", "integer", "number", "boolean", "null"};
constexpr size_t kMaxBranches = 256;  // of a oneOf: each is compared with each
constexpr int kMaxReferences = 16;    // followed one after the other

const Json* Follow(const Json& document, const Json* schema) {
  for (int i = 0; i < kMaxReferences && schema->is_object() && schema->contains("$ref"); ++i) {
    const Json& reference = schema->at("$ref");
    if (!reference.is_string()) break;
    const absl::StatusOr<const Json*> target = Resolve(document, reference.get<std::string>());
    if (!target.ok()) break;
    schema = *target;
  }
  return schema;
}

// The scalars that a schema lists, as text, sorted. nullopt: it lists none, or others too.
std::optional<std::vector<std::string>> Listed(const Json& schema) {
  if (!schema.is_object()) return std::nullopt;
  Json list;
  if (schema.contains("const")) list = Json::array({schema.at("const")});
  if (schema.contains("enum")) list = schema.at("enum");
  if (!list.is_array()) return std::nullopt;
  std::vector<std::string> values;
  for (const Json& value : list) {
    if (value.is_structured()) return std::nullopt;
    values.push_back(value.is_number() ? Json(value.get<double>()).dump() : value.dump());  // 1 is 1.0
  }
  std::sort(values.begin(), values.end());
  return values;
}

bool SharesNoValue(const Json& a, const Json& b) {
  const auto listed_a = Listed(a), listed_b = Listed(b);
  if (!listed_a.has_value() || !listed_b.has_value()) return false;
  std::vector<std::string> common;
  std::set_intersection(listed_a->begin(), listed_a->end(), listed_b->begin(), listed_b->end(),
                        std::back_inserter(common));
  return common.empty();
}

bool SharesNoType(const Json& a, const Json& b) {
  const absl::StatusOr<std::vector<std::string>> types_a = TypesOf({&a, ""}), types_b = TypesOf({&b, ""});
  if (!types_a.ok() || !types_b.ok()) return false;
  for (const std::string& x : *types_a) {
    for (const std::string& y : *types_b) {
      if (x == y || (x == "integer" && y == "number") || (x == "number" && y == "integer")) return false;
    }
  }
  return true;
}

// Whether both are objects and require a property whose listed values differ.
bool DifferInATag(const Json& document, const Json& a, const Json& b) {
  const absl::StatusOr<std::vector<std::string>> required_a = RequiredNames({&a, ""}),
                                                 required_b = RequiredNames({&b, ""});
  if (!required_a.ok() || !required_b.ok() || !a.contains("properties") || !b.contains("properties")) return false;
  const Json &properties_a = a.at("properties"), &properties_b = b.at("properties");
  if (!properties_a.is_object() || !properties_b.is_object()) return false;
  for (const std::string& name : *required_a) {
    const bool common = std::binary_search(required_b->begin(), required_b->end(), name) &&
                        properties_a.contains(name) && properties_b.contains(name);
    if (!common) continue;
    const Json* x = Follow(document, &properties_a.at(name));
    const Json* y = Follow(document, &properties_b.at(name));
    if (SharesNoValue(*x, *y)) return true;
  }
  return false;
}

bool Exclude(const Json& document, const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) return false;
  if (SharesNoValue(a, b)) return true;
  const bool typed = a.contains("type") && b.contains("type");
  if (!typed) return false;
  return SharesNoType(a, b) || (a.at("type") == "object" && b.at("type") == "object" && DifferInATag(document, a, b));
}

}  // namespace

bool IsOfType(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  return type == "integer" ? value.is_number_integer() : value.is_number();
}

absl::StatusOr<std::vector<std::string>> TypesOf(const Schema& schema) {
  const Json* value = schema.Find("type");
  if (value == nullptr) return std::vector<std::string>(std::begin(kTypes), std::end(kTypes));
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<std::string> types;
  for (const Json& type : list) {
    const bool known = type.is_string() &&
                       std::find(std::begin(kTypes), std::end(kTypes), type.get<std::string>()) != std::end(kTypes);
    if (!known) return schema.Error("type is none of object, array, string, integer, number, boolean, null");
    types.push_back(type.get<std::string>());
  }
  if (types.empty()) return schema.Error("type lists nothing");
  std::sort(types.begin(), types.end());
  types.erase(std::unique(types.begin(), types.end()), types.end());
  return types;
}

absl::StatusOr<std::vector<std::string>> RequiredNames(const Schema& schema) {
  std::vector<std::string> names;
  const Json* required = schema.Find("required");
  if (required == nullptr) return names;
  if (!required->is_array()) return schema.Error("required must be a list");
  for (const Json& name : *required) {
    if (!name.is_string()) return schema.Error("required must list strings");
    names.push_back(name.get<std::string>());
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

absl::Status CheckExclusive(const Json& document, const Schema& schema, const Json& branches) {
  if (branches.size() > kMaxBranches) return schema.Error(absl::StrCat("oneOf of more than ", kMaxBranches));
  for (size_t i = 0; i < branches.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (Exclude(document, *Follow(document, &branches[i]), *Follow(document, &branches[j]))) continue;
      return schema.Error("oneOf is supported where its branches exclude each other; anyOf needs no such thing");
    }
  }
  return absl::OkStatus();
}

}  // namespace nibble::engine::grammar
