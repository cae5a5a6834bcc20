#include "engine/weights/gguf_value.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/gguf_builder.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// One value, written and parsed.
template <typename T>
struct Written {
  explicit Written(const T& content) : bytes(GgufBuilder().Set("key", content).Build()) {
    auto parsed = GgufFile::Parse(AsBytes(bytes));
    EXPECT_THAT(parsed, IsOk());
    value = *parsed->Find("key");
  }
  std::string bytes;
  GgufValue value;
};

auto Refused(const std::string& what) {
  return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("key \"key\" at byte 39: "), HasSubstr(what)));
}
// The payload of an array starts after its element type and count.
auto ArrayRefused(const std::string& what) {
  return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("key \"key\" at byte 51: "), HasSubstr(what)));
}

template <typename T>
void ExpectInteger() {
  const T most = std::numeric_limits<T>::max();
  EXPECT_EQ(AsUnsigned(Written<T>(most).value).value(), static_cast<uint64_t>(most));
  if constexpr (std::is_signed_v<T>) {
    EXPECT_THAT(AsUnsigned(Written<T>(T{-1}).value), Refused("is negative: -1"));
  }
}

TEST(GgufValue, IntegersOfEveryWidth) {
  ExpectInteger<uint8_t>();
  ExpectInteger<int8_t>();
  ExpectInteger<uint16_t>();
  ExpectInteger<int16_t>();
  ExpectInteger<uint32_t>();
  ExpectInteger<int32_t>();
  ExpectInteger<uint64_t>();
  ExpectInteger<int64_t>();
  EXPECT_THAT(AsUnsigned(Written<float>(1).value), Refused("is float32, not an integer"));
  EXPECT_THAT(AsUnsigned(Written<std::vector<uint32_t>>({1}).value), ArrayRefused("is an array of uint32"));
}

TEST(GgufValue, Floats) {
  EXPECT_EQ(AsFloat(Written<float>(1.5f).value).value(), 1.5f);
  EXPECT_EQ(AsFloat(Written<double>(-0.25).value).value(), -0.25f);
  EXPECT_THAT(AsFloat(Written<float>(std::nanf("")).value), Refused("not a finite float"));
  EXPECT_THAT(AsFloat(Written<float>(-HUGE_VALF).value), Refused("not a finite float"));
  EXPECT_THAT(AsFloat(Written<double>(1e300).value), Refused("not a finite float"));
  EXPECT_THAT(AsFloat(Written<uint32_t>(1).value), Refused("is uint32, not a float"));
  EXPECT_THAT(AsFloat(Written<std::vector<float>>({1}).value), ArrayRefused("is an array of float32"));
}

TEST(GgufValue, BoolsAndStrings) {
  EXPECT_TRUE(AsBool(Written<bool>(true).value).value());
  EXPECT_FALSE(AsBool(Written<bool>(false).value).value());
  EXPECT_THAT(AsBool(Written<uint8_t>(1).value), Refused("is uint8, not a bool"));
  EXPECT_THAT(AsBool(Written<std::vector<bool>>({true}).value), ArrayRefused("array of bool"));
  EXPECT_EQ(AsString(Written<std::string>(std::string("a\0b", 3)).value).value(), std::string_view("a\0b", 3));
  EXPECT_EQ(AsString(Written<std::string>("").value).value(), "");
  EXPECT_THAT(AsString(Written<bool>(true).value), Refused("is bool, not a string"));
  EXPECT_THAT(AsString(Written<std::vector<std::string>>({"a"}).value), ArrayRefused("array of string"));
}

TEST(GgufValue, Arrays) {
  const Written<std::vector<std::string>> strings({"a", "", "bcd"});
  EXPECT_THAT(AsStrings(strings.value).value(), ElementsAre("a", "", "bcd"));
  EXPECT_THAT(AsStrings(Written<std::string>("a").value), Refused("is string, not an array of strings"));
  EXPECT_THAT(AsStrings(Written<std::vector<float>>({1}).value), ArrayRefused("not an array of strings"));
  EXPECT_THAT(AsInts(Written<std::vector<int32_t>>({-1, 5}).value).value(), ElementsAre(-1, 5));
  EXPECT_THAT(AsInts(Written<std::vector<uint32_t>>({7}).value).value(), ElementsAre(7));
  EXPECT_THAT(AsInts(Written<std::vector<uint32_t>>({7, 1u << 31}).value), ArrayRefused("element 1 is above 2^31 - 1"));
  EXPECT_THAT(AsInts(Written<std::vector<int64_t>>({7}).value), ArrayRefused("not an array of int32"));
  EXPECT_THAT(AsInts(Written<int32_t>(7).value), Refused("not an array of int32"));
  EXPECT_THAT(AsFloats(Written<std::vector<float>>({1, 2}).value).value(), ElementsAre(1.0f, 2.0f));
  EXPECT_THAT(AsFloats(Written<std::vector<float>>({1, std::nanf("")}).value), ArrayRefused("element 1 is not finite"));
  EXPECT_THAT(AsFloats(Written<std::vector<double>>({1}).value), ArrayRefused("not an array of float32"));
  EXPECT_THAT(AsFloats(Written<float>(1).value), Refused("not an array of float32"));
}

TEST(GgufValueDeathTest, TypesOutsideTheTableAreOurBug) {
  EXPECT_DEATH(GgufTypeName(static_cast<GgufType>(13)), "check failed");
  EXPECT_DEATH(GgufElementBytes(static_cast<GgufType>(13)), "check failed");
}

}  // namespace
}  // namespace nibble::engine
