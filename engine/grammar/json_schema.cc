#include "engine/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/grammar/json_values.h"
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_document.h"
#include "engine/grammar/schema_exclusion.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

// Words that change what validates, and that no grammar here expresses.
constexpr std::string_view kNotSupported[] = {"not",
                                              "if",
                                              "then",
                                              "else",
                                              "patternProperties",
                                              "propertyNames",
                                              "dependencies",
                                              "contains",
                                              "minContains",
                                              "maxContains",
                                              "dependentRequired",
                                              "dependentSchemas",
                                              "multipleOf",
                                              "$dynamicRef",
                                              "$recursiveRef",
                                              "unevaluatedProperties",
                                              "unevaluatedItems",
                                              "additionalItems"};

// Words that say alone what validates; beside them only annotations, and "type" beside the last two.
constexpr std::string_view kCombining[] = {"$ref", "anyOf", "oneOf", "allOf", "const", "enum"};

// Words that speak of values of one type, which a schema without "type" is taken to mean.
struct TypeWord {
  std::string_view word, type;
};
constexpr TypeWord kTypeWords[] = {
    {"properties", "object"},       {"required", "object"},        {"additionalProperties", "object"},
    {"minProperties", "object"},    {"maxProperties", "object"},   {"items", "array"},
    {"prefixItems", "array"},       {"minItems", "array"},         {"maxItems", "array"},
    {"uniqueItems", "array"},       {"minLength", "string"},       {"maxLength", "string"},
    {"pattern", "string"},          {"minimum", "number"},         {"maximum", "number"},
    {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"}};

struct Format {
  std::string_view name, pattern;
};
constexpr Format kFormats[] = {
    {"date", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"},  // days that every month has
    {"time", "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
    {"date-time",
     "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
     "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"ipv4", "((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"},
    {"email",
     "[A-Za-z0-9_%+-]{1,32}(\\.[A-Za-z0-9_%+-]{1,32}){0,3}@[A-Za-z0-9]{1,32}(-[A-Za-z0-9]{1,32})?"
     "(\\.[A-Za-z]{2,16}){1,3}"}};

class Compiler {
 public:
  Compiler(const Json& document, Builder* builder)
      : document_(document), builder_(*builder), values_(builder), exclusion_(document) {}

  // Schemas that references point at are rules, compiled one after the other: recursion is as deep as the JSON is.
  absl::StatusOr<RuleId> Compile() {
    const RuleId root = RuleOf({&document_, "$"});
    while (!wanted_.empty()) {
      const auto [schema, rule] = std::move(wanted_.back());
      wanted_.pop_back();
      NIBBLE_ASSIGN_OR_RETURN(const ExprId body, Value(schema));
      builder_.SetBody(rule, body);
    }
    return root;
  }

 private:
  RuleId RuleOf(const Schema& schema) {
    const auto [known, is_new] = rules_.try_emplace(schema.json, -1);
    if (is_new) {
      known->second = builder_.AddRule(schema.path);
      wanted_.emplace_back(schema, known->second);
    }
    return known->second;
  }

  absl::StatusOr<ExprId> Value(const Schema& schema) {
    NIBBLE_RETURN_IF_ERROR(builder_.CheckSize());
    if (schema.json->is_boolean()) {
      if (schema.json->get<bool>()) return values_.Any();
      return schema.Error("nothing validates against false");
    }
    if (!schema.json->is_object()) return schema.Error("must be an object or a boolean");
    for (const std::string_view word : kNotSupported) {
      if (schema.Has(word)) return schema.Error(absl::StrCat(std::string(word), " is not supported"));
    }
    for (const std::string_view word : kCombining) {
      if (!schema.Has(word)) continue;
      NIBBLE_RETURN_IF_ERROR(CheckStandsAlone(schema, word));
      return Combined(schema, word);
    }
    return Typed(schema);
  }

  absl::Status CheckStandsAlone(const Schema& schema, std::string_view word) {
    const bool lists_values = word == "const" || word == "enum";
    const auto refuse = [&](std::string_view other) {
      return schema.Error(absl::StrCat(std::string(word), " beside ", std::string(other), " is not supported"));
    };
    if (schema.Has("type") && !lists_values) return refuse("type");
    for (const std::string_view other : kCombining) {
      if (other != word && schema.Has(other)) return refuse(other);
    }
    for (const TypeWord& other : kTypeWords) {
      if (schema.Has(other.word)) return refuse(other.word);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExprId> Combined(const Schema& schema, std::string_view word) {
    const Json& value = *schema.Find(word);
    if (word == "$ref") {
      if (!value.is_string()) return schema.Error("$ref must be a string");
      const absl::StatusOr<const Json*> target = Resolve(document_, value.get<std::string>());
      if (!target.ok()) return schema.Error(std::string(target.status().message()));
      return builder_.Call(RuleOf({*target, schema.path}));
    }
    if (word == "const") return Values(schema, Json::array({value}));
    if (!value.is_array() || value.empty()) return schema.Error(absl::StrCat(std::string(word), " must be a list"));
    if (word == "enum") return Values(schema, value);
    if (word == "allOf" && value.size() > 1) return schema.Error("allOf of more than one is not supported");
    if (word == "oneOf") NIBBLE_RETURN_IF_ERROR(exclusion_.Check(schema, value));
    std::vector<ExprId> branches;
    for (size_t i = 0; i < value.size(); ++i) {
      NIBBLE_ASSIGN_OR_RETURN(const ExprId branch,
                              Value(schema.Below(absl::StrCat(std::string(word), ".", i), value[i])));
      branches.push_back(branch);
    }
    return builder_.Alternate(branches);
  }

  // The listed values that "type", where it is given, admits.
  absl::StatusOr<ExprId> Values(const Schema& schema, const Json& values) {
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(schema));
    std::vector<ExprId> literals;
    for (const Json& value : values) {
      const auto admits = [&](const std::string& type) { return IsOfType(value, type); };
      if (std::any_of(types.begin(), types.end(), admits)) literals.push_back(builder_.Literal(value.dump()));
    }
    if (literals.empty()) return schema.Error("no listed value is of the type");
    return builder_.Alternate(literals);
  }

  absl::StatusOr<ExprId> Typed(const Schema& schema) {
    NIBBLE_ASSIGN_OR_RETURN(std::vector<std::string> types, TypesOf(schema));
    if (!schema.Has("type")) {
      types.clear();
      for (const TypeWord& word : kTypeWords) {
        if (schema.Has(word.word)) types.emplace_back(word.type);
      }
      if (types.empty()) return values_.Any();
    }
    // Each once: what lies below a type would double with every level.
    std::sort(types.begin(), types.end());
    types.erase(std::unique(types.begin(), types.end()), types.end());
    std::vector<ExprId> alternatives;
    for (const std::string& type : types) {
      NIBBLE_ASSIGN_OR_RETURN(const ExprId alternative, OfType(schema, type));
      alternatives.push_back(alternative);
    }
    return builder_.Alternate(alternatives);
  }

  absl::StatusOr<ExprId> OfType(const Schema& schema, const std::string& type) {
    if (type == "object") return Object(schema);
    if (type == "array") return Array(schema);
    if (type == "string") return String(schema);
    if (type == "boolean") return builder_.Alternate({builder_.Literal("true"), builder_.Literal("false")});
    if (type == "null") return builder_.Literal("null");
    return Number(schema, type == "integer");
  }

  absl::StatusOr<ExprId> Object(const Schema& schema) {
    NIBBLE_ASSIGN_OR_RETURN(const int64_t min, schema.Count("minProperties", 0));
    NIBBLE_ASSIGN_OR_RETURN(const int64_t max, schema.Count("maxProperties", kUnbounded));
    NIBBLE_ASSIGN_OR_RETURN(std::vector<JsonValues::Member> members, Members(schema));
    if (!members.empty()) {
      const auto is_required = [](const JsonValues::Member& member) { return member.required; };
      const int64_t least = std::count_if(members.begin(), members.end(), is_required);
      if (min > least || (max != kUnbounded && max < static_cast<int64_t>(members.size()))) {
        return schema.Error("minProperties and maxProperties beside properties are not supported");
      }
      return values_.Object(members);
    }
    const Json* others = schema.Find("additionalProperties");
    if (others != nullptr && others->is_boolean() && !others->get<bool>()) {
      if (min > 0) return schema.Error("minProperties asks for more than there may be");
      return values_.Object({});
    }
    // The same name twice would be one member to a reader.
    if (min > 1) return schema.Error("minProperties above 1 is not supported");
    if (max != kUnbounded && max < min) return schema.Error("maxProperties is below minProperties");
    NIBBLE_ASSIGN_OR_RETURN(const ExprId value, OtherValue(schema));
    return values_.Map(value, min, max);
  }

  // Of a member that "properties" does not name.
  absl::StatusOr<ExprId> OtherValue(const Schema& schema) {
    const Json* others = schema.Find("additionalProperties");
    if (others == nullptr) return values_.Any();
    return Value(schema.Below("additionalProperties", *others));
  }

  absl::StatusOr<std::vector<JsonValues::Member>> Members(const Schema& schema) {
    std::vector<JsonValues::Member> members;
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string> required, RequiredNames(schema));
    const auto is_required = [&](const std::string& name) {
      return std::binary_search(required.begin(), required.end(), name);
    };
    const Json* properties = schema.Find("properties");
    if (properties != nullptr) {
      if (!properties->is_object()) return schema.Error("properties must be an object");
      for (const auto& [name, property] : properties->items()) {
        NIBBLE_ASSIGN_OR_RETURN(const ExprId value, Value(schema.Below(absl::StrCat("properties.", name), property)));
        members.push_back({name, value, is_required(name)});
      }
    }
    std::optional<ExprId> other;  // one for all names: compiled for each, it would double with every level
    for (const std::string& name : required) {
      if (properties != nullptr && properties->contains(name)) continue;
      if (!other.has_value()) {
        NIBBLE_ASSIGN_OR_RETURN(other, OtherValue(schema));
      }
      members.push_back({name, *other, true});
    }
    return members;
  }

  absl::StatusOr<ExprId> Array(const Schema& schema) {
    NIBBLE_ASSIGN_OR_RETURN(const int64_t min, schema.Count("minItems", 0));
    NIBBLE_ASSIGN_OR_RETURN(const int64_t max, schema.Count("maxItems", kUnbounded));
    if (max != kUnbounded && max < min) return schema.Error("maxItems is below minItems");
    const Json* unique = schema.Find("uniqueItems");
    if (unique != nullptr && *unique != Json(false)) return schema.Error("uniqueItems is not supported");
    std::vector<ExprId> prefix;
    if (const Json* first = schema.Find("prefixItems"); first != nullptr) {
      if (!first->is_array()) return schema.Error("prefixItems must be a list");
      for (size_t i = 0; i < first->size(); ++i) {
        NIBBLE_ASSIGN_OR_RETURN(const ExprId item, Value(schema.Below(absl::StrCat("prefixItems.", i), (*first)[i])));
        prefix.push_back(item);
      }
    }
    const Json* items = schema.Find("items");
    if (items != nullptr && items->is_boolean() && !items->get<bool>()) {
      if (min > static_cast<int64_t>(prefix.size())) return schema.Error("minItems asks for more than there may be");
      return values_.Array(prefix, std::nullopt, min, max);
    }
    // A rule, which is copied only where it is small: an array of many has it many times.
    ExprId item = values_.Any();
    if (items != nullptr) item = builder_.Call(RuleOf(schema.Below("items", *items)));
    return values_.Array(prefix, item, min, max);
  }

  absl::StatusOr<ExprId> String(const Schema& schema) {
    NIBBLE_ASSIGN_OR_RETURN(const int64_t min, schema.Count("minLength", 0));
    NIBBLE_ASSIGN_OR_RETURN(const int64_t max, schema.Count("maxLength", kUnbounded));
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<std::string> pattern, schema.Text("pattern"));
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<std::string> format, schema.Text("format"));
    if (max != kUnbounded && max < min) return schema.Error("maxLength is below minLength");
    const bool bounded = schema.Has("minLength") || schema.Has("maxLength");
    if (pattern.has_value()) {
      if (bounded) return schema.Error("pattern beside minLength or maxLength is not supported");
      return Pattern(schema, *pattern, Match::kSomewhere);
    }
    if (bounded) return values_.StringOfLength(min, max);
    for (const Format& known : kFormats) {
      if (format == known.name) return Pattern(schema, known.pattern, Match::kWhole);
    }
    return values_.String();  // other formats are annotations
  }

  absl::StatusOr<ExprId> Pattern(const Schema& schema, std::string_view pattern, Match match) {
    const absl::StatusOr<ExprId> content = ParseRegex(pattern, match, Spelling::kJson, &builder_);
    if (!content.ok()) return schema.Error(absl::StrCat("pattern: ", content.status().message()));
    return values_.Quoted(*content);
  }

  absl::StatusOr<ExprId> Number(const Schema& schema, bool is_integer) {
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<double> at_least, schema.Number("minimum"));
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<double> at_most, schema.Number("maximum"));
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<double> above, schema.Number("exclusiveMinimum"));
    NIBBLE_ASSIGN_OR_RETURN(const std::optional<double> below, schema.Number("exclusiveMaximum"));
    if (!at_least.has_value() && !at_most.has_value() && !above.has_value() && !below.has_value()) {
      return is_integer ? values_.Integer() : values_.Number();
    }
    constexpr double kLargest = static_cast<double>(kLargestJsonInteger);
    const double low = std::max({at_least.value_or(-kLargest), above.value_or(-kLargest), -kLargest});
    const double high = std::min({at_most.value_or(kLargest), below.value_or(kLargest), kLargest});
    if (low > high) return schema.Error("no number between the bounds is supported");
    double first = std::ceil(low), last = std::floor(high);  // whole numbers
    std::vector<ExprId> parts;
    if (!is_integer && first < last) {
      parts.push_back(values_.FractionBetween(static_cast<int64_t>(first), static_cast<int64_t>(last)));
    }
    if (above.has_value() && first == *above) first += 1.0;
    if (below.has_value() && last == *below) last -= 1.0;
    if (first <= last) parts.push_back(values_.IntegerWithin(static_cast<int64_t>(first), static_cast<int64_t>(last)));
    if (parts.empty()) return schema.Error("no number between the bounds is supported");
    return builder_.Alternate(parts);
  }

  const Json& document_;
  Builder& builder_;
  JsonValues values_;
  Exclusion exclusion_;
  absl::flat_hash_map<const Json*, RuleId> rules_;
  std::vector<std::pair<Schema, RuleId>> wanted_;
};

}  // namespace

absl::StatusOr<RuleId> ParseJsonSchema(std::string_view source, Builder* builder) {
  NIBBLE_ASSIGN_OR_RETURN(const Json document, ParseSchemaText(source));
  return Compiler(document, builder).Compile();
}

}  // namespace nibble::engine::grammar
