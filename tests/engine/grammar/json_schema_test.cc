#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/grammar/schema_document.h"
#include "tests/engine/grammar/byte_vocabulary.h"

namespace nibble::engine::grammar {
namespace {

using Texts = std::vector<std::string>;

struct Case {
  const char* schema;
  Texts valid, invalid;
};

TEST(JsonSchema, AllowsWhatValidatesAndNothingElse) {
  const Case kCases[] = {
      {R"({"type":"boolean"})", {"true", "false"}, {"", "True", "1", "\"true\""}},
      {R"({"type":"null"})", {"null"}, {"nul", "0"}},
      {R"({"type":["integer","null"]})",
       {"-7", "0", "null", "123456789012345"},
       {"1.5", "01", "--1", "1234567890123456"}},
      {R"({"type":"number"})", {"0", "-0.5", "12.25e-3", "1E9"}, {".5", "1.", "+1", "1e999", "NaN"}},
      {R"({"type":"string"})",
       {R"("")", R"("a\"b\\\/\n\u00e9é")", "\"\U0001F600\"", R"("\uD83D\uDE00")", "\"\x7f\""},
       {"\"a", "\"a\nb\"", "\"\xc3\"", R"("\x")", R"("\uD83D")", R"("\uD83Da")", R"("\uDE00")", "\"\xed\xa0\x80\""}},
      {R"({"type":"string","minLength":1,"maxLength":3})",
       {R"("a")", R"("éé\n")", R"("\uD83D\uDE00ab")"},
       {R"("")", R"("abcd")"}},
      {R"({"type":"string","pattern":"^[a-c]+\\d$"})", {R"("abc1")"}, {R"("1")", R"("xa1")", R"("a1 ")"}},
      {R"({"type":"string","pattern":"[\"\\\\]\n"})", {R"("a\"\n")", R"("\\\nb")"}, {R"("\n")", R"("a")"}},
      {R"({"type":"string","pattern":"^a.b$"})",
       {R"("a b")", R"("a\"b")", "\"a\u2027b\"", R"("a\tb")"},
       {R"("a\nb")", R"("a\rb")", "\"a\u2028b\"", "\"a\u2029b\"", R"("ab")"}},
      {R"({"type":"string","format":"date"})", {R"("2026-02-28")"}, {R"("2026-02-30")", R"("2026-13-01")", R"("x")"}},
      {R"({"type":"string","format":"other"})", {R"("x")"}, {"1"}},
      {R"({"type":"integer","minimum":-3,"maximum":120})",
       {"-3", "-1", "0", "7", "99", "120"},
       {"-4", "121", "-0", "1000", "1.0"}},
      {R"({"type":"integer","exclusiveMinimum":9,"exclusiveMaximum":12})", {"10", "11"}, {"9", "12", "1"}},
      {R"({"type":"integer","minimum":1905})", {"1905", "2026", "999999999999999"}, {"1904", "0", "-5"}},
      {R"({"type":"number","minimum":0,"maximum":1})", {"0", "1", "0.25", "0.001"}, {"-0.5", "1.5", "2", "0.0"}},
      {R"({"type":"number","exclusiveMinimum":-2,"maximum":0.5})",
       {"-1", "-1.9", "-0.1", "0"},
       {"-2", "-2.5", "0.9", "1"}},
      {R"({"enum":["a",1,null,{"b":[true]}]})", {R"("a")", "1", "null", R"({"b":[true]})"}, {"2", R"({"b":[false]})"}},
      {R"({"const":"x\ny"})", {R"("x\ny")"}, {R"("x")"}},
      {R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"boolean"}},"required":["a"]})",
       {R"({"a":1})", R"({"a": 1, "b": true})", "{\n  \"a\": 1,\n  \"b\": false\n}", R"({"a":1,"b":true})"},
       {"{}", R"({"b":true})", R"({"b":true,"a":1})", R"({"a":1,})", R"({"a":1,"c":2})", R"({"a":1 ,"b":true})"}},
      {R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2},"c":{"const":3}}})",
       {"{}", R"({"b":2})", R"({"a":1,"c":3})", R"({"a":1,"b":2,"c":3})"},
       {R"({"c":3,"a":1})", R"({"a":1 "b":2})", R"({,"a":1})"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"},"maxProperties":2})",
       {"{}", R"({"x":1})", R"({"x":1,"":2})"},
       {R"({"x":true})", R"({"x":1,"y":2,"z":3})"}},
      {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"x":1})"}},
      {R"({"type":"object","required":["k"]})", {R"({"k":[1]})"}, {"{}", R"({"j":1})"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1, 2,3]", "[\n1,\n2\n]"},
       {"[]", "[1,2,3,4]", "[1,]", "[true]"}},
      {R"({"type":"array","prefixItems":[{"const":1},{"const":2}],"items":false})",
       {"[]", "[1]", "[1,2]"},
       {"[2]", "[1,2,3]"}},
      {R"({"type":"array","prefixItems":[{"const":1}],"items":{"const":9},"minItems":2,"maxItems":3})",
       {"[1,9]", "[1,9,9]"},
       {"[1]", "[9,9]", "[1,9,9,9]"}},
      {R"({"type":"array","prefixItems":[{"const":1}],"minItems":1})", {"[1]", "[1,true,{}]"}, {"[]", "[2]"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"string"}]})", {"1", R"("a")"}, {"true"}},
      {R"({"oneOf":[{"type":"object","properties":{"t":{"const":"a"}},"required":["t"]},
                    {"type":"object","properties":{"t":{"const":"b"},"n":{"const":1}},"required":["t"]}]})",
       {R"({"t":"a"})", R"({"t":"b","n":1})"},
       {R"({"t":"a","n":1})", R"({"t":"c"})"}},
      {R"({"allOf":[{"type":"integer"}],"title":"t","description":"d"})", {"1"}, {"true"}},
      {R"({"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{
           "v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/tree"},{"type":"null"}]}},"required":["v","next"]}}})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":{"v":2}})"}},
      {"true", {"1", R"({"a":[1,"x",{}]})", "[]", "null"}, {"", "{", R"({"a"})", "[1,]"}},
      {"{}", {"1", "[[[[]]]]"}, {"]"}},
  };
  for (const Case& c : kCases) {
    const auto grammar = CompileBytes(Notation::kJsonSchema, c.schema);
    ASSERT_TRUE(grammar.ok()) << c.schema << ": " << grammar.status();
    for (const std::string& text : c.valid) EXPECT_TRUE(Matches(*grammar, text)) << c.schema << " on " << text;
    for (const std::string& text : c.invalid) EXPECT_FALSE(Matches(*grammar, text)) << c.schema << " on " << text;
  }
}

TEST(JsonSchema, AnyObject) {
  const auto grammar = *CompileBytes(Notation::kJsonSchema, R"({"type":"object"})");
  EXPECT_TRUE(Matches(grammar, R"({"a": [1, {"b": null}], "c": "d"})"));
  EXPECT_FALSE(Matches(grammar, "[]"));
}

TEST(JsonSchema, Row12_CallsThatEndedAreForgotten) {
  const auto any = *CompileBytes(Notation::kJsonSchema, "true");
  const auto of_objects = *CompileBytes(Notation::kJsonSchema, R"({"items":{"type":"object"}})");
  std::string numbers = R"({"a":[{}],"b":[)", objects = "[";
  for (int i = 0; i < 50'000; ++i) {
    numbers += "1,";
    objects += R"({"x":[1]},)";
  }
  EXPECT_TRUE(Matches(any, numbers + "1]}"));
  EXPECT_FALSE(Matches(any, numbers + "1]]"));
  EXPECT_TRUE(Matches(of_objects, objects + "{}]"));
  EXPECT_FALSE(Matches(of_objects, objects + "1]"));
}

// Random answers of any JSON value parse as JSON.
TEST(JsonSchema, WhatIsReadParses) {
  const auto grammar = *CompileBytes(Notation::kJsonSchema, "true");
  std::mt19937 random(1);
  int whole = 0;
  for (int i = 0; i < 3000; ++i) {
    Matcher matcher(grammar);
    std::string text;
    for (int length = 0; length < 40 && matcher.CanGoOn(); ++length) {
      std::vector<uint64_t> mask(4);
      ASSERT_TRUE(matcher.FillMask({}, absl::MakeSpan(mask)));
      std::vector<int32_t> ids;
      for (int32_t id = 0; id < 256; ++id) {
        const bool likely = id != ' ' && id != '\n' && id != '\t' && id != '\\';
        if ((mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) && (likely || random() % 8 == 0)) ids.push_back(id);
      }
      if (ids.empty()) continue;
      const int32_t id = ids[random() % ids.size()];
      ASSERT_TRUE(matcher.Accept(id));
      text.push_back(static_cast<char>(id));
      if (!matcher.CanEnd()) continue;
      ++whole;
      ASSERT_TRUE(nlohmann::json::accept(text)) << text;
    }
  }
  EXPECT_GT(whole, 1000);
}

TEST(JsonSchema, Row9_WhatIsWrongIsNamedAndWhere) {
  const std::pair<const char*, const char*> kCases[] = {
      {"", "is no JSON"},
      {"{", "is no JSON"},
      {"{\"a\":1}x", "is no JSON"},
      {"{\"type\":\"\xff\"}", "is no JSON"},
      {"[]", "$: must be an object or a boolean"},
      {"false", "$: nothing validates against false"},
      {R"({"type":"text"})", "$: type is none of object, array, string, integer, number, boolean, null"},
      {R"({"type":[]})", "$: type lists nothing"},
      {R"({"type":7})", "$: type is none of object, array, string, integer, number, boolean, null"},
      {R"({"properties":{"a":{"type":"thing"}}})",
       "$.properties.a: type is none of object, array, string, integer, number, boolean, null"},
      {R"({"properties":[]})", "$: properties must be an object"},
      {R"({"required":"a"})", "$: required must be a list"},
      {R"({"required":[1]})", "$: required must list strings"},
      {R"({"properties":{"a":{}},"required":["b"],"additionalProperties":false})",
       "$.additionalProperties: nothing validates against false"},
      {R"({"items":{"not":{}}})", "$.items: not is not supported"},
      {R"({"type":"array","items":[{}]})", "$.items: must be an object or a boolean"},
      {R"({"type":"array","uniqueItems":true})", "$: uniqueItems is not supported"},
      {R"({"type":"array","minItems":3,"maxItems":2})", "$: maxItems is below minItems"},
      {R"({"type":"array","minItems":-1})", "$: minItems must be a whole number up to 100000"},
      {R"({"type":"array","items":false,"minItems":1})", "$: minItems asks for more than there may be"},
      {R"({"type":"string","maxLength":1e9})", "$: maxLength must be a whole number up to 100000"},
      {R"({"type":"string","pattern":"("})", "$: pattern: a ')' is missing at byte 1"},
      {R"({"type":"string","pattern":"a","minLength":2})", "$: pattern beside minLength or maxLength is not supported"},
      {R"({"type":"integer","minimum":5,"maximum":4})", "$: no number between the bounds is supported"},
      {R"({"type":"integer","minimum":1e20})", "$: no number between the bounds is supported"},
      {R"({"type":"integer","multipleOf":2})", "$: multipleOf is not supported"},
      {R"({"enum":[]})", "$: enum must be a list"},
      {R"({"type":"string","const":1})", "$: no listed value is of the type"},
      {R"({"anyOf":[{}],"type":"object"})", "$: anyOf beside type is not supported"},
      {R"({"anyOf":[{}],"properties":{}})", "$: anyOf beside properties is not supported"},
      {R"({"allOf":[{},{}]})", "$: allOf of more than one is not supported"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})",
       "$: oneOf is supported where its branches exclude each other; anyOf needs no such thing"},
      {R"({"$ref":"http://example.com/s"})", "$: $ref must point within the document: '#/…'"},
      {R"({"$ref":"#/$defs/none"})", "$: $ref points at nothing"},
      {R"({"$ref":"#"})", "no text that the model can spell matches"},
      {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "the rule '$' leads to left recursion"},
  };
  for (const auto& [schema, message] : kCases) {
    EXPECT_EQ(CompileBytes(Notation::kJsonSchema, schema).status(), absl::InvalidArgumentError(message)) << schema;
  }
}

TEST(JsonSchema, Row9_LongNamesDoNotFillMessages) {
  const std::string name(60'000, 'n');
  const auto grammar = CompileBytes(Notation::kJsonSchema, R"({"properties":{")" + name + R"(":{"type":1}}})");
  EXPECT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_LT(grammar.status().message().size(), 500u);
  // Nor is a long name kept for every rule below it.
  const Json item = Json::object(), value = Json::object();
  Schema schema = {&value, "$"};
  for (int i = 0; i < 100; ++i) schema = schema.Below("é" + name, item);
  EXPECT_LE(schema.path.size(), 203u);
  EXPECT_EQ(Schema({&value, "$"}).Below("aé" + std::string(199, 'n'), item).path, "…" + std::string(199, 'n'));
}

TEST(JsonSchema, Row10_ManyStatesAreRefused) {
  EXPECT_FALSE(CompileBytes(Notation::kJsonSchema, R"({"type":"string","maxLength":100000})").ok());
  EXPECT_TRUE(CompileBytes(Notation::kJsonSchema, R"({"type":"string","maxLength":2000})").ok());
}

// What lies below a word is compiled once, however often the word asks for it: these would take 2^25 times as long.
TEST(JsonSchema, Row10_WhatIsAskedForTwiceIsCompiledOnce) {
  std::string names = "true", types = "true";
  for (int i = 0; i < 25; ++i) {
    names = R"({"required":["a","b"],"additionalProperties":)" + names + "}";
    types = R"({"type":["object","object"],"properties":{"a":)" + types + "}}";
  }
  EXPECT_EQ(CompileBytes(Notation::kJsonSchema, names).status().code(), absl::StatusCode::kInvalidArgument);
  const auto grammar = CompileBytes(Notation::kJsonSchema, types);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  EXPECT_TRUE(Matches(*grammar, R"({"a":{"a":{}}})"));
  const auto both = CompileBytes(Notation::kJsonSchema,
                                 R"({"required":["a","b"],"additionalProperties":{"type":["null","integer","null"]}})");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_TRUE(Matches(*both, R"({"a":null,"b":7})"));
  EXPECT_FALSE(Matches(*both, R"({"a":null,"b":true})"));
}

TEST(JsonSchema, Row10_ManyLongListsAreRefusedBeforeTheyAreWrittenOut) {
  std::string lists;
  for (int i = 0; i < 1300; ++i) lists += R"({"prefixItems":[{}],"maxItems":100000},)";
  lists.pop_back();
  EXPECT_EQ(CompileBytes(Notation::kJsonSchema, R"({"anyOf":[)" + lists + "]}").status(),
            absl::InvalidArgumentError("is too large: more than 262144 parts"));
  // Nor is "any character" written out for every place where it is meant.
  std::string alternatives = "a";
  for (int i = 0; i < 30'000; ++i) alternatives += "|b";
  EXPECT_EQ(CompileBytes(Notation::kJsonSchema, R"({"pattern":")" + alternatives + R"("})").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(JsonSchema, Row10_TellingBranchesApartIsBounded) {
  // 256 branches, each of which requires what lists thousands of values.
  const auto one_of = [](int count, int values) {
    std::string lists, branches;
    for (int i = 0; i < values; ++i) lists += std::to_string(i) + ",";
    lists.pop_back();
    for (int i = 0; i < count; ++i) {
      branches += R"({"type":"object","required":["a","b"],"properties":{"a":{"$ref":"#/e"},"b":{"const":)" +
                  std::to_string(i) + "}}},";
    }
    branches.pop_back();
    return CompileBytes(Notation::kJsonSchema, R"({"oneOf":[)" + branches + R"(],"e":{"enum":[)" + lists + "]}}")
        .status();
  };
  EXPECT_TRUE(one_of(3, 3).ok()) << one_of(3, 3);
  EXPECT_EQ(one_of(256, 7'000), absl::InvalidArgumentError("$: oneOf: its branches list too much to be told apart"));
}

TEST(JsonSchema, Row11_DepthIsBounded) {
  const auto nested = [](int depth) {  // arrays in arrays: each is two levels of JSON
    std::string schema = "true";
    for (int i = 0; i < depth; ++i) schema = R"({"items":)" + schema + "}";
    return CompileBytes(Notation::kJsonSchema, schema).status();
  };
  EXPECT_TRUE(nested(64).ok()) << nested(64);
  EXPECT_EQ(nested(65), absl::InvalidArgumentError("nests deeper than 64"));
  for (const size_t depth : {5'000, 60'000}) {
    EXPECT_EQ(CompileBytes(Notation::kJsonSchema, std::string(depth, '[')).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(CompileBytes(Notation::kJsonSchema, std::string(depth / 2, '[') + std::string(depth / 2, ']')).status(),
              absl::InvalidArgumentError("nests deeper than 64"));
  }
}

}  // namespace
}  // namespace nibble::engine::grammar
