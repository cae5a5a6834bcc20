// Row 56 of the robustness table, for the JSON files of a model folder.
#include "engine/weights/json_document.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

auto Refused(const std::string& what) {
  return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("x.json"), HasSubstr(what)));
}

absl::Status Parse(const std::string& text) { return JsonDocument::Parse(text, "x.json").status(); }

JsonDocument Document(const std::string& text) {
  auto document = JsonDocument::Parse(text, "x.json");
  EXPECT_THAT(document, IsOk());
  return *std::move(document);
}

TEST(JsonDocument, Row56_WhatIsNotOneObjectInUtf8IsRefused) {
  for (const char* text : {"", " ", "{", "{]", "{\"a\":}", "{\"a\":1}}", "{\"a\":1,}", "{'a':1}", "{\"a\":NaN}",
                           "// {}", "{\"a\":\"\xC3\"}", "{\"a\":\"\\ud800\"}", "{\"a\":01}"}) {
    EXPECT_THAT(Parse(text), Refused("is not JSON in UTF-8 from here on")) << text;
  }
  EXPECT_THAT(Parse(std::string("{}\0", 3)), Refused("at byte 2: holds a zero byte"));
  for (const char* text : {"[]", "1", "null", "\"a\""}) EXPECT_THAT(Parse(text), Refused("is no object"));
}

TEST(JsonDocument, Row56_DuplicateKeysAndNumbersOutOfRangeAreRefused) {
  EXPECT_THAT(Parse(R"({"a":1,"b":2,"\u0061":3})"), Refused("key \"a\" is a duplicate"));
  EXPECT_THAT(Parse(R"({"x":[{"a":1},{"a":1,"a":2}]})"), Refused("key \"a\" is a duplicate"));
  EXPECT_THAT(Parse(R"({"x":[{"a":1},{"a":1}]})"), IsOk());
  EXPECT_THAT(Parse(R"({"a":1e999})"), Refused("out of range"));
}

TEST(JsonDocument, Row56_DepthIsBounded) {
  const auto nested = [](size_t depth) {  // the top level is one
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_THAT(Parse(nested(kJsonMaxDepth)), IsOk());
  EXPECT_THAT(Parse(nested(kJsonMaxDepth + 1)), Refused("nests deeper than 32"));
  EXPECT_THAT(Parse("{\"a\":" + std::string(1000000, '[')), Refused("nests deeper than 32"));
  EXPECT_THAT(Parse([] {
                std::string text;
                for (int i = 0; i < 100000; ++i) text += "{\"a\":";
                return text;
              }()),
              Refused("nests deeper than 32"));
}

TEST(JsonDocument, Row56_ValuesAreCounted) {
  std::string text = "{\"a\":[0";
  for (size_t i = 3; i < kJsonMaxValues; ++i) text += ",0";  // the object, the array, the first 0
  EXPECT_THAT(Parse(text + "]}"), IsOk());
  EXPECT_THAT(Parse(text + ",0]}"), Refused("has more than 4194304 values"));
}

TEST(JsonDocument, ReadsByName) {
  const JsonDocument document = Document(
      R"({"int":7,"negative":-7,"number":2.5,"yes":true,"text":"caf\u00e9","list":[1,{"deep":3}],"none":null})");
  int64_t number = 1;
  double real = 1;
  float single = 0.1f;
  bool flag = false;
  std::string text;
  EXPECT_THAT(document["int"].ReadInt(0, 7, &number), IsOk());
  EXPECT_EQ(number, 7);
  EXPECT_THAT(document["number"].ReadNumber(0, 3, &real), IsOk());
  EXPECT_EQ(real, 2.5);
  EXPECT_THAT(document["int"].ReadNumber(0, 7, &real), IsOk());
  EXPECT_EQ(real, 7);
  EXPECT_THAT(document["yes"].ReadBool(&flag), IsOk());
  EXPECT_TRUE(flag);
  EXPECT_THAT(document["text"].ReadText(5, &text), IsOk());
  EXPECT_EQ(text, "caf\xC3\xA9");
  EXPECT_THAT(document["list"].At(1)["deep"].ReadInt(0, 9, &number), IsOk());
  EXPECT_EQ(number, 3);
  for (const JsonValue& absent : {document["none"], document["nothing"], document["int"]["x"], document["a"]["b"]}) {
    EXPECT_FALSE(absent.present());
    EXPECT_THAT(absent.ReadInt(5, 6, &number), IsOk());
    EXPECT_THAT(absent.ReadFloat(5, 6, &single), IsOk());
    EXPECT_THAT(absent.Require(), Refused("is missing"));
  }
  EXPECT_EQ(number, 3);
  EXPECT_EQ(single, 0.1f);
}

TEST(JsonDocument, ErrorsNameTheFileAndTheField) {
  const JsonDocument document = Document(R"({"a":{"b":[1,"x",18446744073709551615,-1,1.5]},"c":"text"})");
  const JsonValue list = document["a"]["b"];
  int64_t number = 0;
  double real = 0;
  bool flag = false;
  std::string text;
  EXPECT_THAT(list.At(0).ReadInt(2, 9, &number), Refused("x.json: a.b[0]: 1 is not within 2 to 9"));
  EXPECT_THAT(list.At(1).ReadInt(2, 9, &number), Refused("x.json: a.b[1]: is not a whole number"));
  EXPECT_THAT(list.At(2).ReadInt(2, INT64_MAX, &number), Refused("18446744073709551615 is not within"));
  EXPECT_THAT(list.At(3).ReadInt(0, 9, &number), Refused("-1 is not within 0 to 9"));
  EXPECT_THAT(list.At(4).ReadInt(0, 9, &number), Refused("is not a whole number"));
  EXPECT_THAT(list.At(4).ReadNumber(2, 3, &real), Refused("1.5 is not within 2 to 3"));
  EXPECT_THAT(list.At(1).ReadNumber(2, 3, &real), Refused("is not a number"));
  EXPECT_THAT(list.At(0).ReadBool(&flag), Refused("is not true or false"));
  EXPECT_THAT(list.At(0).ReadText(9, &text), Refused("is not a string"));
  EXPECT_THAT(document["c"].ReadText(3, &text), Refused("x.json: c: is longer than 3 bytes"));
  EXPECT_THAT(list.CheckObject(), Refused("is not an object"));
  EXPECT_THAT(document["a"].CheckArray(), Refused("is not an array"));
  EXPECT_THAT(list.CheckArray(), IsOk());
  EXPECT_THAT(document["nothing"].CheckObject(), IsOk());
}

}  // namespace
}  // namespace nibble::engine
