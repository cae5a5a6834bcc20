// Rows 56-58 of the robustness table: what the safetensors container refuses.
#include "engine/weights/safetensors.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/gguf_builder.h"
#include "tests/engine/weights/largest_allocation.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

std::string WithLength(uint64_t length, const std::string& rest) { return GgufBuilder::Encode(length) + rest; }

std::string FileOf(const std::string& header, const std::string& data = "") {
  return WithLength(header.size(), header + data);
}

// One tensor "t" of two bytes whose field is replaced, as text.
std::string OneTensor(const std::string& fields, const std::string& data = "ab") {
  return FileOf("{\"t\":{" + fields + "}}", data);
}

constexpr char kType[] = R"("dtype":"U8")", kShape[] = R"("shape":[2])", kOffsets[] = R"("data_offsets":[0,2])";

std::string Join(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : ",") + part;
  return all;
}

void ExpectRefused(const std::string& bytes, const std::string& field, const std::string& what) {
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(field), ContainsRegex("at byte [0-9]+: "),
                                                                    HasSubstr(what), Not(HasSubstr("\n")))));
}

std::string Example() {
  static const std::vector<float> kMatrix = {1, 2, 3, 4, 5, 6};
  static const std::string kBytes = "abc";
  const absl::Span<const std::byte> matrix(reinterpret_cast<const std::byte*>(kMatrix.data()), 24);
  return SerializeSafetensors({{"format", "x"}, {"quote", "a \"b\" \n"}},
                              {{"bytes", SafetensorsType::kI8, {3}, AsBytes(kBytes)},
                               {"matrix", SafetensorsType::kF32, {2, 3}, matrix},
                               {"nothing", SafetensorsType::kU64, {4, 0}, {}},
                               {"scalar", SafetensorsType::kU8, {}, AsBytes(kBytes).first(1)}});
}

TEST(Safetensors, ReadsWhatWasWritten) {
  const std::string bytes = Example();
  const auto file = SafetensorsFile::Parse(AsBytes(bytes));
  ASSERT_THAT(file, IsOk());
  EXPECT_EQ(file->metadata().size(), 2u);
  ASSERT_NE(file->FindMetadata("quote"), nullptr);
  EXPECT_EQ(*file->FindMetadata("quote"), "a \"b\" \n");
  EXPECT_EQ(file->FindMetadata("other"), nullptr);
  ASSERT_EQ(file->tensors().size(), 4u);
  const SafetensorsTensor* const matrix = file->Find("matrix");
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(matrix->type, SafetensorsType::kF32);
  EXPECT_EQ(matrix->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((matrix->data.data() - AsBytes(bytes).data()) % 8, 0);
  float last = 0.0f;
  std::memcpy(&last, matrix->data.data() + 20, sizeof(last));
  EXPECT_EQ(last, 6.0f);
  EXPECT_EQ(file->Find("scalar")->data.size(), 1u);
  EXPECT_TRUE(file->Find("scalar")->shape.empty());
  EXPECT_TRUE(file->Find("nothing")->data.empty());
  EXPECT_EQ(file->Find("none"), nullptr);
}

TEST(Safetensors, WritesTheSameForAnyOrder) {
  const std::string bytes = Example();
  const auto file = SafetensorsFile::Parse(AsBytes(bytes));
  ASSERT_THAT(file, IsOk());
  const std::vector<SafetensorsTensor> tensors(file->tensors().begin(), file->tensors().end());
  EXPECT_EQ(SerializeSafetensors(file->metadata(), tensors), bytes);
  EXPECT_EQ(SerializeSafetensors(file->metadata(), {tensors.rbegin(), tensors.rend()}), bytes);
}

TEST(Safetensors, TypesHaveTheirNamesAndSizes) {
  EXPECT_EQ(FindSafetensorsType("BF16")->type, SafetensorsType::kBF16);
  EXPECT_EQ(FindSafetensorsType("F128"), nullptr);
  for (const char* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
                           "F64", "I64", "U64"}) {
    const SafetensorsTypeTraits* const traits = FindSafetensorsType(name);
    ASSERT_NE(traits, nullptr) << name;
    EXPECT_EQ(&TraitsOf(traits->type), traits) << name;
  }
}

TEST(Safetensors, AFileOfNoTensorsIsOne) {
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(FileOf("{}      "))), IsOk());
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(SerializeSafetensors({}, {}))), IsOk());
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string bytes = Example();
  for (size_t size = 0; size < bytes.size(); ++size) ExpectRefused(bytes.substr(0, size), "", "");
}

TEST(Safetensors, Row56_HeaderLength) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{7}}) {
    ExpectRefused(std::string(size, '\0'), "header length", "needs 8 bytes");
  }
  ExpectRefused(WithLength(7, "{}     "), "header length", "is 7, too short");
  ExpectRefused(WithLength(0, "{}"), "header length", "is 0, too short");
  ExpectRefused(WithLength(9, "{}      "), "header length", "the file has 8 bytes left");
  ExpectRefused(WithLength(std::numeric_limits<uint64_t>::max(), "{}      "), "header length", "above the limit");
  ExpectRefused(WithLength(std::numeric_limits<uint64_t>::max() - 7, "{}      "), "header length", "above the limit");
  const auto padded = [](uint64_t length) { return FileOf("{}" + std::string(length - 2, ' ')); };
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(padded(kSafetensorsMaxHeaderBytes))), IsOk());
  ExpectRefused(padded(kSafetensorsMaxHeaderBytes + 1), "header length", "above the limit of 16777216");
}

TEST(Safetensors, Row56_HeaderIsOneJsonObject) {
  for (const char* header : {" {}     ", "[]      ", "\"{}\"    ", "\xef\xbb\xbf{}   "}) {
    ExpectRefused(FileOf(header), "header at byte 8", "does not start with {");
  }
  for (const char* header :
       {"{       ", "{}{}    ", "{} x    ", "{\"a\":}   ", "{\"a\" 1}  ", "{/**/}   ", "{\"a\": NaN}"}) {
    ExpectRefused(FileOf(header), "header", "is not JSON in UTF-8");
  }
  ExpectRefused(FileOf(std::string("{}\0\0\0\0\0\0", 8)), "header at byte 10", "holds a zero byte");
}

TEST(Safetensors, Row56_BadUtf8) {
  for (const char* text : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\\ud800", "\x01"}) {
    ExpectRefused(FileOf("{\"__metadata__\":{\"a\":\"" + std::string(text) + "\"}}"), "header", "is not JSON in UTF-8");
    ExpectRefused(FileOf("{\"" + std::string(text) + "\":{}}"), "header", "is not JSON in UTF-8");
  }
}

TEST(Safetensors, Row56_DeepJson) {
  constexpr int kDepth = 1000000;
  std::string objects, arrays(kDepth, '[');
  for (int i = 0; i < kDepth; ++i) objects += "{\"a\":";
  for (const std::string& header :
       {objects, "{\"a\":" + arrays, "{\"a\":{\"shape\":" + arrays, "{\"__metadata__\":{\"a\":" + arrays}) {
    const std::string bytes = FileOf(header);
    largest_allocation_bytes = 0;
    const bool parsed = SafetensorsFile::Parse(AsBytes(bytes)).ok();
    EXPECT_LE(largest_allocation_bytes, 16u << 10);
    EXPECT_FALSE(parsed);
  }
  ExpectRefused(FileOf(objects), "tensor \"a\"", "field \"a\" that the format does not have");
  ExpectRefused(FileOf("{\"a\":" + arrays), "tensor \"a\"", "is an array");
}

TEST(Safetensors, Row56_DuplicateKeys) {
  const std::string tensor = "\"t\":{" + Join({kType, R"("shape":[0])", R"("data_offsets":[0,0])"}) + "}";
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(FileOf("{" + tensor + "}"))), IsOk());
  ExpectRefused(FileOf("{" + tensor + "," + tensor + "}"), "tensor \"t\"", "is a duplicate");
  ExpectRefused(FileOf("{" + tensor + ",\"\\u0074\":{}}"), "tensor \"t\"", "is a duplicate");
  ExpectRefused(FileOf(R"({"__metadata__":{},"__metadata__":{}})"), "__metadata__", "is a duplicate");
  ExpectRefused(FileOf(R"({"__metadata__":{"a":"1","a":"2"}})"), "metadata \"a\"", "is a duplicate");
  for (const char* field : {kType, kShape, kOffsets}) {
    ExpectRefused(OneTensor(Join({kType, kShape, kOffsets, field})), "of tensor \"t\"", "is a duplicate");
  }
}

TEST(Safetensors, Row56_Numbers) {
  for (const char* number :
       {"1e999", "-1e999", "2e0", "2.0", "-2", "-0", "18446744073709551616", "9223372036854775808"}) {
    ExpectRefused(OneTensor(Join({kType, "\"shape\":[" + std::string(number) + "]", kOffsets})), "", "");
  }
  for (const char* number : {"1e999", "2e0", "2.0", "-2", "18446744073709551616", "18446744073709551615", "02"}) {
    ExpectRefused(OneTensor(Join({kType, kShape, "\"data_offsets\":[0," + std::string(number) + "]"})), "", "");
  }
  ExpectRefused(OneTensor(Join({kType, "\"shape\":[1e999]", kOffsets})), "header", "out of range");
  ExpectRefused(OneTensor(Join({kType, "\"shape\":[2.0]", kOffsets})), "shape of tensor \"t\"", "not a whole number");
}

TEST(Safetensors, Row56_MetadataOfStringsAlone) {
  for (const char* value : {"1", "-1", "1.5", "null", "true", "[]", "{}"}) {
    ExpectRefused(FileOf("{\"__metadata__\":{\"key\":" + std::string(value) + "}}"), "metadata \"key\"", "is ");
  }
  for (const char* value : {"1", "\"a\"", "null", "[]", "true"}) {
    ExpectRefused(FileOf("{\"__metadata__\":" + std::string(value) + "}"), "__metadata__", "is ");
  }
}

TEST(Safetensors, Row56_FieldsOfATensor) {
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(OneTensor(Join({kOffsets, kShape, kType})))), IsOk());
  ExpectRefused(OneTensor(Join({kShape, kOffsets})), "tensor \"t\"", "has no dtype");
  ExpectRefused(OneTensor(Join({kType, kOffsets})), "tensor \"t\"", "has no shape");
  ExpectRefused(OneTensor(Join({kType, kShape})), "tensor \"t\"", "has no data_offsets");
  ExpectRefused(OneTensor(Join({kType, kShape, kOffsets, "\"more\":1"})), "tensor \"t\"", "has a field \"more\"");
  ExpectRefused(OneTensor(Join({R"("dtype":"u8")", kShape, kOffsets})), "dtype of tensor \"t\"", "is not a known type");
  ExpectRefused(OneTensor(Join({R"("dtype":1)", kShape, kOffsets})), "dtype of tensor \"t\"", "is a number");
  ExpectRefused(OneTensor(Join({kType, R"("shape":2)", kOffsets})), "shape of tensor \"t\"", "is a number");
  ExpectRefused(OneTensor(Join({kType, R"("shape":["2"])", kOffsets})), "shape of tensor \"t\"", "is a string");
  for (const char* offsets : {"[]", "[0]"}) {
    const std::string field = "\"data_offsets\":" + std::string(offsets);
    ExpectRefused(OneTensor(Join({kType, kShape, field})), "data_offsets of tensor \"t\"", "is not two numbers");
  }
  ExpectRefused(OneTensor(Join({kType, kShape, R"("data_offsets":[0,2,2])"})), "data_offsets", "more than two numbers");
  ExpectRefused(FileOf("{\"t\":1}"), "header length", "too short");
  ExpectRefused(FileOf("{\"t\":1} "), "tensor \"t\"", "is a number");
}

TEST(Safetensors, Row56_Limits) {
  const auto named = [](size_t bytes) {
    return FileOf("{\"" + std::string(bytes, 'n') + "\":{" + Join({kType, kShape, kOffsets}) + "}}", "ab");
  };
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(named(kSafetensorsMaxNameBytes))), IsOk());
  ExpectRefused(named(kSafetensorsMaxNameBytes + 1), "name", "is not 1 to 256 bytes long");
  ExpectRefused(named(0), "name", "is not 1 to 256 bytes long");
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(OneTensor(Join({kType, R"("shape":[2,1,1,1,1,1,1,1])", kOffsets})))),
              IsOk());
  ExpectRefused(OneTensor(Join({kType, R"("shape":[2,1,1,1,1,1,1,1,1])", kOffsets})), "shape",
                "more than 8 dimensions");
  const auto many = [](size_t count, const std::string& value, std::string header) {
    for (size_t i = 0; i < count; ++i) header += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":" + value;
    return header;
  };
  const std::string tensor = "{" + Join({kType, R"("shape":[0])", R"("data_offsets":[0,0])"}) + "}";
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(FileOf(many(kSafetensorsMaxTensors, tensor, "{") + "}"))), IsOk());
  ExpectRefused(FileOf(many(kSafetensorsMaxTensors + 1, tensor, "{") + "}"), "65536",
                "above the limit of 65536 tensors");
  const std::string open = "{\"__metadata__\":{";
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(FileOf(many(kSafetensorsMaxMetadata, "\"\"", open) + "}}"))), IsOk());
  ExpectRefused(FileOf(many(kSafetensorsMaxMetadata + 1, "\"\"", open) + "}}"), "65536",
                "above the limit of 65536 entries");
}

// Two tensors of two bytes each, at these offsets.
std::string TwoTensors(const std::string& first, const std::string& second, const std::string& data) {
  const auto entry = [](const std::string& name, const std::string& offsets) {
    return "\"" + name + "\":{" + Join({kType, kShape, "\"data_offsets\":" + offsets}) + "}";
  };
  return FileOf("{" + entry("a", first) + "," + entry("b", second) + "}", data);
}

TEST(Safetensors, Row57_TensorsFillTheFile) {
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(TwoTensors("[0,2]", "[2,4]", "abcd"))), IsOk());
  EXPECT_THAT(SafetensorsFile::Parse(AsBytes(TwoTensors("[2,4]", "[0,2]", "abcd"))), IsOk());
  ExpectRefused(TwoTensors("[0,2]", "[3,5]", "abcde"), "data_offsets of tensor \"b\"", "leave a hole");
  ExpectRefused(TwoTensors("[1,3]", "[3,5]", "abcde"), "data_offsets of tensor \"a\"", "leave a hole");
  ExpectRefused(TwoTensors("[0,2]", "[1,3]", "abc"), "data_offsets of tensor \"b\"", "overlap");
  ExpectRefused(TwoTensors("[0,2]", "[0,2]", "ab"), "data_offsets of tensor", "overlap");
  ExpectRefused(TwoTensors("[0,2]", "[2,4]", "abc"), "data_offsets of tensor \"b\"", "reach past the file's 3 bytes");
  ExpectRefused(TwoTensors("[0,2]", "[2,4]", "abcde"), "tensor data", "1 bytes belong to no tensor");
  ExpectRefused(FileOf("{}      ", "a"), "tensor data at byte 16", "1 bytes belong to no tensor");
}

TEST(Safetensors, Row57_SizeIsShapeTimesType) {
  ExpectRefused(OneTensor(Join({kType, kShape, R"("data_offsets":[2,0])"})), "data_offsets of tensor \"t\"",
                "end before they begin");
  for (const char* shape : {"[1]", "[3]", "[]", "[0]", "[2,2]", "[2,0]"}) {
    ExpectRefused(OneTensor(Join({kType, "\"shape\":" + std::string(shape), kOffsets})), "data_offsets of tensor \"t\"",
                  "bytes of its dtype and shape");
  }
  ExpectRefused(OneTensor(Join({R"("dtype":"F64")", kShape, kOffsets})), "data_offsets", "are not the 16 bytes");
}

TEST(Safetensors, Row57_ProductOverflows) {
  for (const char* shape : {"[4611686018427387904,8]", "[4294967296,4294967296]", "[4294967296,4294967296,0]",
                            "[9223372036854775807,9223372036854775807,9223372036854775807]"}) {
    ExpectRefused(OneTensor(Join({kType, "\"shape\":" + std::string(shape), kOffsets})), "shape of tensor \"t\"",
                  "more than 2^64 - 1 bytes");
  }
  // 2^62 elements of 8 bytes would be 2^65 bytes, which wraps to 0.
  ExpectRefused(OneTensor(Join({R"("dtype":"F64")", R"("shape":[4611686018427387904])", R"("data_offsets":[0,0])"})),
                "shape of tensor \"t\"", "more than 2^64 - 1 bytes");
}

TEST(Safetensors, Row58_OtherFilesAreNamed) {
  const std::string rest(64, '\0');
  ExpectRefused("PK\x03\x04\x14" + rest, "magic", "zip archive");
  ExpectRefused("\x1f\x8b\x08" + rest, "magic", "compressed by gzip");
  ExpectRefused("\x1f\x8b\x08" + std::string(600000, '\0'), "magic", "compressed by gzip");
  for (const char* protocol : {"\x80\x02", "\x80\x04", "\x80\x05"}) {
    ExpectRefused(protocol + rest, "magic", "Python pickle");
  }
  ExpectRefused(GgufBuilder().Build(), "magic", "GGUF");
}

TEST(Safetensors, NamesFromTheFileAreEscaped) {
  const std::string bytes = FileOf("{\"\\u001b[31m\\n\":1}");
  ExpectRefused(bytes, "tensor \"\\x1b[31m\\n\"", "is a number");
}

}  // namespace
}  // namespace nibble::engine
