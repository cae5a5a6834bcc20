#include "engine/grammar/schema_exclusion.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

constexpr const char* kTypes[] = {"object", "array", "string", "integer", "number", "boolean", "null"};
constexpr size_t kMaxBranches = 256;  // of a oneOf: each is compared with each
constexpr int kMaxReferences = 16;    // followed one after the other
constexpr int64_t kMaxSteps = 1 << 22;

bool ShareNoType(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  if (a.empty() || b.empty()) return false;
  for (const std::string& x : a) {
    for (const std::string& y : b) {
      if (x == y || (x == "integer" && y == "number") || (x == "number" && y == "integer")) return false;
    }
  }
  return true;
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

const Json* Exclusion::FollowOnce(const Json* schema) {
  const auto [known, is_new] = followed_.try_emplace(schema, schema);
  if (!is_new) return known->second;
  const Json& reference = schema->at("$ref");
  if (!reference.is_string()) return schema;
  const absl::StatusOr<const Json*> target = Resolve(document_, reference.get<std::string>());
  if (target.ok()) known->second = *target;
  return known->second;
}

const Json* Exclusion::Follow(const Json* schema) {
  for (int i = 0; i < kMaxReferences && schema->is_object() && schema->contains("$ref"); ++i) {
    schema = FollowOnce(schema);
  }
  return schema;
}

const Exclusion::Values* Exclusion::Listed(const Json& schema) {
  const auto [known, is_new] = listed_.try_emplace(&schema);
  if (!is_new || !schema.is_object()) return known->second.get();
  const Json* first = nullptr;
  size_t count = 0;
  if (const auto found = schema.find("enum"); found != schema.end()) {
    if (!found->is_array()) return nullptr;
    count = found->size();
    first = count == 0 ? nullptr : &(*found)[0];
  } else if (const auto single = schema.find("const"); single != schema.end()) {
    count = 1;
    first = &*single;
  } else {
    return nullptr;
  }
  auto values = std::make_unique<Values>();
  for (size_t i = 0; i < count; ++i) {
    const Json& value = first[i];
    if (value.is_structured()) return nullptr;
    values->texts.push_back(value.is_number() ? Json(value.get<double>()).dump() : value.dump());  // 1 is 1.0
    values->steps += 1 + static_cast<int64_t>(values->texts.back().size() / 16);
  }
  std::sort(values->texts.begin(), values->texts.end());
  known->second = std::move(values);
  return known->second.get();
}

std::vector<Exclusion::Tag> Exclusion::TagsOf(const Json& schema) {
  std::vector<Tag> tags;
  const absl::StatusOr<std::vector<std::string>> required = RequiredNames({&schema, ""});
  const auto properties = schema.find("properties");
  if (!required.ok() || properties == schema.end() || !properties->is_object()) return tags;
  for (const auto& [name, property] : properties->items()) {
    if (!std::binary_search(required->begin(), required->end(), name)) continue;
    if (const Values* values = Listed(*Follow(&property)); values != nullptr) tags.push_back({name, values});
  }
  std::sort(tags.begin(), tags.end(), [](const Tag& a, const Tag& b) { return a.name < b.name; });
  return tags;
}

// nullptr: no object.
const Exclusion::Facts* Exclusion::FactsOf(const Json& schema) {
  const auto [known, is_new] = facts_.try_emplace(&schema);
  if (!is_new || !schema.is_object()) return known->second.get();
  auto facts = std::make_unique<Facts>();
  facts->listed = Listed(schema);
  if (const auto type = schema.find("type"); type != schema.end()) {
    facts->typed = true;
    if (absl::StatusOr<std::vector<std::string>> types = TypesOf({&schema, ""}); types.ok()) facts->types = *types;
    if (*type == "object") facts->tags = TagsOf(schema);
  }
  known->second = std::move(facts);
  return known->second.get();
}

bool Exclusion::ShareNone(const Values* a, const Values* b) {
  if (a == nullptr || b == nullptr) return false;
  steps_ += a->steps + b->steps;
  if (steps_ > kMaxSteps) return false;
  auto x = a->texts.begin(), y = b->texts.begin();
  while (x != a->texts.end() && y != b->texts.end()) {
    const int order = x->compare(*y);
    if (order == 0) return false;
    order < 0 ? ++x : ++y;
  }
  return true;
}

// Whether both are objects and require a property whose listed values differ.
bool Exclusion::DifferInATag(const Facts& a, const Facts& b) {
  auto x = a.tags.begin(), y = b.tags.begin();
  while (x != a.tags.end() && y != b.tags.end() && steps_ <= kMaxSteps) {
    steps_ += 1 + static_cast<int64_t>(std::min(x->name.size(), y->name.size()) / 16);
    const int order = x->name.compare(y->name);
    if (order == 0 && ShareNone(x->values, y->values)) return true;
    if (order <= 0) ++x;
    if (order >= 0) ++y;
  }
  return false;
}

bool Exclusion::Exclude(const Facts& a, const Facts& b) {
  ++steps_;
  if (ShareNone(a.listed, b.listed)) return true;
  if (!a.typed || !b.typed) return false;
  return ShareNoType(a.types, b.types) || DifferInATag(a, b);
}

absl::Status Exclusion::Check(const Schema& schema, const Json& branches) {
  if (branches.size() > kMaxBranches) return schema.Error(absl::StrCat("oneOf of more than ", kMaxBranches));
  std::vector<const Facts*> facts;
  for (const Json& branch : branches) facts.push_back(FactsOf(*Follow(&branch)));
  for (size_t i = 0; i < facts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (facts[i] != nullptr && facts[j] != nullptr && Exclude(*facts[i], *facts[j])) continue;
      if (steps_ > kMaxSteps) return schema.Error("oneOf: its branches list too much to be told apart");
      return schema.Error("oneOf is supported where its branches exclude each other; anyOf needs no such thing");
    }
  }
  return absl::OkStatus();
}

}  // namespace nibble::engine::grammar
