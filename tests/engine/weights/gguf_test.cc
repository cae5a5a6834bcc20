// Rows 43-50, 53 and 54 of the robustness table: what the container itself refuses.
#include "engine/weights/gguf.h"

#include <string>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "engine/weights/checked.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/largest_allocation.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr uint64_t kHuge[] = {uint64_t{0xffffffff}, uint64_t{1} << 63, ~uint64_t{0}};

// Refused with a reason that is one line and names the field, an offset, and what is wrong.
void ExpectRefused(const std::string& bytes, const std::string& field, const std::string& what) {
  EXPECT_THAT(GgufFile::Parse(AsBytes(bytes)),
              StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(field), ContainsRegex("at byte [0-9]+: "),
                                                                    HasSubstr(what), Not(HasSubstr("\n")))));
}

void ExpectRefused(const GgufBuilder& file, const std::string& field, const std::string& what) {
  ExpectRefused(file.Build(), field, what);
}

// Parses, asserting that no single allocation came near what the lie in `file` asks for.
void ExpectRefusedWithoutAllocating(const GgufBuilder& file, const std::string& field, const std::string& what) {
  const std::string bytes = file.Build();
  largest_allocation_bytes = 0;
  const bool parsed = GgufFile::Parse(AsBytes(bytes)).ok();
  EXPECT_LE(largest_allocation_bytes, 16u << 10) << field;
  EXPECT_FALSE(parsed);
  ExpectRefused(bytes, field, what);
}

TEST(Gguf, ReadsWhatWasWritten) {
  GgufBuilder file;
  file.Set("a.number", int16_t{-3}).Set("a.text", "hello").Set("a.list", std::vector<uint64_t>{1, 2, 3});
  file.Set("a.flags", std::vector<bool>{true, false}).Set("general.alignment", uint32_t{64});
  file.alignment = 64;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  file.AddF32("matrix", {2, 3}, values).AddRaw("quantized", {2, 32}, 8, std::string(68, '\1'));
  for (const uint32_t version : {2u, 3u}) {
    file.version = version;
    const std::string bytes = file.Build();
    const auto parsed = GgufFile::Parse(AsBytes(bytes));
    ASSERT_THAT(parsed, IsOk());
    EXPECT_EQ(parsed->version(), version);
    EXPECT_EQ(parsed->alignment(), 64u);
    EXPECT_EQ(parsed->size_bytes(), bytes.size());
    EXPECT_EQ(parsed->metadata().size(), 5u);
    ASSERT_NE(parsed->Find("a.list"), nullptr);
    EXPECT_EQ(parsed->Find("a.list")->count, 3u);
    EXPECT_EQ(parsed->Find("a.nothing"), nullptr);
    const GgufTensor* matrix = parsed->FindTensor("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(matrix->data.data()), matrix->data.size()),
              std::string(reinterpret_cast<const char*>(values.data()), 24));
    EXPECT_EQ(parsed->FindTensor("quantized")->data_offset % 64, 0u);
    EXPECT_EQ(parsed->FindTensor("quantized")->traits->encoding, Encoding::kQ8_0);
    EXPECT_EQ(parsed->FindTensor("nothing"), nullptr);
  }
}

TEST(Gguf, ParsingReadsNoTensorData) {
  GgufBuilder file;
  file.AddF32("t", {2}, std::vector<float>{1, 2});
  std::string bytes = file.Build();
  const auto parsed = GgufFile::Parse(AsBytes(bytes));
  ASSERT_THAT(parsed, IsOk());
  bytes[bytes.size() - 1] = '\x41';
  EXPECT_EQ(parsed->FindTensor("t")->data.back(), std::byte{0x41});  // a view, not a copy
}

TEST(Gguf, Row43_BadMagicAndVersionsAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused("", "magic at byte 0", "0 left");
  ExpectRefused("GGUF", "version at byte 4", "0 left");
  file.magic = 0x46554748;
  ExpectRefused(file, "magic at byte 0", "is not");
  file = TinyGguf("llama");
  for (const uint32_t version : {0u, 1u, 4u, 0xffffu}) {
    file.version = version;
    ExpectRefused(file, "version at byte 4", std::to_string(version));
  }
  file.version = 0x03000000;
  ExpectRefused(file, "version at byte 4", "big-endian");
}

TEST(Gguf, Row43_CutAtEveryByteOfTheHeaderIsRefused) {
  for (const char* architecture : {"llama", "gemma3"}) {
    const GgufBuilder file = TinyGguf(architecture);
    const std::string bytes = file.Build();
    ASSERT_THAT(GgufFile::Parse(AsBytes(bytes)), IsOk());
    for (size_t size = 0; size <= file.HeaderBytes(); ++size) {
      // A copy of exactly this size: the sanitizer sees a read past its end.
      const std::vector<std::byte> cut(AsBytes(bytes).begin(), AsBytes(bytes).begin() + static_cast<ptrdiff_t>(size));
      ASSERT_THAT(GgufFile::Parse(cut), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("at byte"))) << size;
    }
  }
}

TEST(Gguf, Row44_HugeCountsAreRefusedWithoutAllocating) {
  for (const uint64_t count : kHuge) {
    GgufBuilder file = TinyGguf("llama");
    file.tensor_count_error = count - 20;
    ExpectRefusedWithoutAllocating(file, "tensor_count at byte 8", "limit");
    file.tensor_count_error = 0;
    file.metadata_count_error = count - 20;
    ExpectRefusedWithoutAllocating(file, "metadata_kv_count at byte 16", "limit");
  }
}

TEST(Gguf, Row44_CountsAreHeldAgainstTheBytesLeft) {
  GgufBuilder file;
  file.Set("k", uint8_t{1});
  file.metadata_count_error = 1;  // two entries cannot fit where one does
  ExpectRefused(file, "metadata_kv_count", "cannot fit in the remaining 14 bytes");
  file.metadata_count_error = 0;
  file.tensor_count_error = 1;
  ExpectRefused(file, "tensor_count", "cannot fit");
}

TEST(Gguf, Row44_LimitsOfCounts) {
  GgufBuilder file;
  for (uint64_t i = 0; i < kGgufMaxMetadata; ++i) file.Append("k" + std::to_string(10000 + i), 0, "x");
  EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
  file.Append("one.more", 0, "x");
  ExpectRefused(file, "metadata_kv_count", "limit of 65536");

  GgufBuilder tensors;
  tensors.alignment = 8;
  tensors.Set("general.alignment", uint32_t{8});
  for (uint64_t i = 0; i < kGgufMaxTensors; ++i) tensors.AddRaw("t" + std::to_string(i), {1}, 0, "1234");
  EXPECT_THAT(GgufFile::Parse(AsBytes(tensors.Build())), IsOk());
  tensors.AddRaw("one.more", {1}, 0, "1234");
  ExpectRefused(tensors, "tensor_count", "limit of 65536");
}

TEST(Gguf, Row45_StringLengthsAreRefused) {
  for (const uint64_t length : {uint64_t{1} << 31, uint64_t{1} << 63, ~uint64_t{0}}) {
    GgufBuilder file;
    file.SetRaw("text", static_cast<uint32_t>(GgufType::kString), GgufBuilder::Encode(length) + "abc");
    ExpectRefusedWithoutAllocating(file, "key \"text\"", "above the limit");
    std::string bytes = TinyGguf("llama").Build();
    bytes.replace(24, 8, GgufBuilder::Encode(length));  // the first key's own length
    ExpectRefused(bytes, "key at byte 24", "above the limit");
  }
  GgufBuilder file;
  file.SetRaw("text", static_cast<uint32_t>(GgufType::kString), GgufBuilder::Encode(uint64_t{4}) + "abc");
  ExpectRefused(file, "key \"text\"", "needs 4 bytes, the file has 3 left");
}

TEST(Gguf, Row45_LimitsOfStrings) {
  GgufBuilder file;
  file.Set("text", std::string(kGgufMaxStringBytes, 'a')).Set(std::string(kGgufMaxKeyBytes, 'k'), "x");
  EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
  file.Set("text", std::string(kGgufMaxStringBytes + 1, 'a'));
  ExpectRefused(file, "key \"text\"", "above the limit of 16777216");
  file.Set("text", "x").Set(std::string(kGgufMaxKeyBytes + 1, 'k'), "x");
  ExpectRefused(file, "key at byte", "above the limit of 256");
}

std::string ArrayOf(uint32_t type, uint64_t count, const std::string& elements) {
  return GgufBuilder::Encode(type) + GgufBuilder::Encode(count) + elements;
}

TEST(Gguf, Row46_ArraySizesThatOverflowAreRefusedWithoutAllocating) {
  constexpr uint32_t kArray = static_cast<uint32_t>(GgufType::kArray);
  for (const uint64_t count : {uint64_t{5}, uint64_t{1} << 61, uint64_t{1} << 62, ~uint64_t{0}}) {
    for (const GgufType type : {GgufType::kUint32, GgufType::kFloat64, GgufType::kString}) {
      GgufBuilder file;
      file.SetRaw("list", kArray, ArrayOf(static_cast<uint32_t>(type), count, "0123456789"));
      ExpectRefusedWithoutAllocating(file, "array length of key \"list\"", "cannot fit");
    }
  }
  GgufBuilder file;
  file.SetRaw("list", kArray, ArrayOf(8, 1, GgufBuilder::Encode(uint64_t{9}) + "short"));
  ExpectRefused(file, "key \"list\"", "needs 9 bytes");
}

TEST(Gguf, Row46_NestedArraysAndUnknownTypesAreRefused) {
  constexpr uint32_t kArray = static_cast<uint32_t>(GgufType::kArray);
  GgufBuilder file;
  file.SetRaw("list", kArray, ArrayOf(kArray, 1, ArrayOf(0, 1, "x")));
  ExpectRefused(file, "type of key \"list\"", "array of arrays");
  for (const uint32_t type : {13u, 255u, 0xffffffffu}) {
    file.SetRaw("list", kArray, ArrayOf(type, 1, "01234567"));
    ExpectRefused(file, "type of key \"list\"", "is not a value type");
    file.SetRaw("list", type, "01234567");
    ExpectRefused(file, "type of key \"list\"", "is not a value type");
  }
}

TEST(Gguf, Row46_BoolsOtherThanZeroAndOneAreRefused) {
  GgufBuilder file;
  file.SetRaw("flag", static_cast<uint32_t>(GgufType::kBool), "\7");
  ExpectRefused(file, "key \"flag\"", "neither 0 nor 1");
  file.SetRaw("flag", static_cast<uint32_t>(GgufType::kArray), ArrayOf(7, 3, std::string("\0\1\2", 3)));
  ExpectRefused(file, "key \"flag\"", "neither 0 nor 1");
}

GgufBuilder OneTensor() {
  GgufBuilder file;
  return file.AddF32("t", {2, 4}, std::vector<float>(8));
}

TEST(Gguf, Row47_NumberOfDimensions) {
  for (const uint32_t n_dims : {0u, 5u, 0xffffffffu}) {
    GgufBuilder file = OneTensor();
    file.tensor("t").n_dims = n_dims;
    ExpectRefused(file, "shape of tensor \"t\"", "dimensions");
  }
  GgufBuilder file;
  file.AddF32("t", {1, 2, 1, 3}, std::vector<float>(6));
  EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
}

TEST(Gguf, Row47_DimensionsThatWrapAreRefused) {
  constexpr uint64_t kTwo32 = uint64_t{1} << 32;
  struct Case {
    std::vector<uint64_t> dims;
    std::string what;
  };
  const Case cases[] = {
      {{4, 0}, "a dimension is 0"},
      {{uint64_t{1} << 63, 1}, "above 2^63"},
      {{~uint64_t{0}, 2}, "above 2^63"},
      {{kTwo32, kTwo32}, "more than 2^63"},                          // the product wraps to 0
      {{kTwo32, kTwo32 + 1}, "more than 2^63"},                      // and to something small
      {{uint64_t{1} << 62, 1}, "reaches past the end of the file"},  // only the bytes wrap, to 0
      {{(uint64_t{1} << 62) + 1, 1}, "reaches past the end of the file"},
  };
  for (const Case& bad : cases) {
    GgufBuilder file = OneTensor();
    file.tensor("t").dims = bad.dims;
    ExpectRefused(file, "tensor \"t\"", bad.what);
  }
}

TEST(Gguf, Row48_OffsetPlusSizeThatWrapsIsRefused) {
  GgufBuilder file = OneTensor();
  file.tensor("t").offset_error = -32;  // 2^64 - 32: in range only if the sum wraps
  ExpectRefused(file, "data of tensor \"t\"", "past the end");
  file.tensor("t").offset_error = INT64_MAX - 31;
  ExpectRefused(file, "data of tensor \"t\"", "past the end");
}

TEST(Gguf, Row48_CheckedKeepsAnOverflowThroughTheExpression) {
  constexpr uint64_t kMax = ~uint64_t{0};
  EXPECT_TRUE((Checked(kMax) + 0).ok());
  EXPECT_FALSE((Checked(kMax) + 1).ok());
  EXPECT_FALSE((Checked(kMax) + 1 + 5).FitsIn(kMax));
  EXPECT_FALSE((Checked(uint64_t{1} << 32) * (uint64_t{1} << 32) * 0).ok());
  EXPECT_FALSE((Checked(0) * (Checked(kMax) * 2)).ok());
  EXPECT_FALSE((Checked(0) + (Checked(kMax) * 2)).ok());
  EXPECT_FALSE(Checked(kMax - 3).AlignedUp(8).ok());
  EXPECT_EQ(Checked(33).AlignedUp(32).value(), 64u);
  EXPECT_EQ((Checked(6) * 7 + 1).value(), 43u);
  EXPECT_TRUE(Checked(43).FitsIn(43));
  EXPECT_FALSE(Checked(43).FitsIn(42));
}

TEST(GgufDeathTest, Row48_ValueOfAnOverflowIsOurBug) {
  EXPECT_DEATH((Checked(~uint64_t{0}) + 1).value(), "check failed");
}

TEST(Gguf, Row49_TensorPastTheEndOfTheFileIsRefused) {
  const GgufBuilder file = OneTensor();
  const std::string bytes = file.Build();
  for (size_t size = file.HeaderBytes(); size < bytes.size(); ++size) {
    const std::string field = size < bytes.size() - 32 ? "tensor data" : "data of tensor \"t\"";
    ExpectRefused(bytes.substr(0, size), field, "");
  }
  EXPECT_THAT(GgufFile::Parse(AsBytes(bytes + "more")), IsOk());
}

TEST(Gguf, Row49_OverlappingTensorsAreRefused) {
  GgufBuilder file;
  file.AddF32("a", {16}, std::vector<float>(16)).AddF32("b", {8}, std::vector<float>(8));
  EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
  file.tensor("b").offset_error = -32;  // into the second half of a
  ExpectRefused(file, "data of tensor \"b\"", "overlaps tensor \"a\"");
  file.tensor("b").offset_error = -64;  // the same start
  ExpectRefused(file, "data of tensor", "overlaps");
}

TEST(Gguf, Row49_MisalignedTensorsAreRefused) {
  GgufBuilder file = OneTensor();
  for (const int64_t error : {1, 4, 31}) {
    file.tensor("t").offset_error = error;
    ExpectRefused(file, "offset of tensor \"t\"", "not a multiple of the alignment 32");
  }
}

TEST(Gguf, Row50_AlignmentIsAPowerOfTwoWithinLimits) {
  for (const uint32_t alignment : {0u, 1u, 3u, 4u, 48u, 131072u, 1u << 31}) {
    GgufBuilder file = OneTensor();
    file.Set("general.alignment", alignment);
    ExpectRefused(file, "key \"general.alignment\"", "is not a power of two from 8 to 65536");
  }
  for (const uint64_t alignment : {kGgufMinAlignment, kGgufMaxAlignment}) {
    GgufBuilder file = OneTensor();
    file.Set("general.alignment", static_cast<uint32_t>(alignment));
    file.alignment = alignment;
    EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
  }
}

TEST(Gguf, Row50_AlignmentOfAnotherTypeIsRefused) {
  GgufBuilder file = OneTensor();
  ExpectRefused(file.Set("general.alignment", uint64_t{32}), "key \"general.alignment\"", "not a uint32");
  ExpectRefused(file.Set("general.alignment", int32_t{32}), "key \"general.alignment\"", "not a uint32");
  ExpectRefused(file.Set("general.alignment", "32"), "key \"general.alignment\"", "not a uint32");
  ExpectRefused(file.Set("general.alignment", std::vector<uint32_t>{32}), "key \"general.alignment\"", "not a uint32");
}

TEST(Gguf, Row53_RowsThatAreNotWholeBlocksAreRefused) {
  for (const EncodingTraits& traits : AllEncodings()) {
    if (traits.gguf_type == kNoGgufType) continue;
    const auto data = std::string(static_cast<size_t>(traits.block_bytes), '\0');
    GgufBuilder file;
    file.AddRaw("t", {1, traits.block_elements}, traits.gguf_type, data);
    EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk()) << traits.name;
    if (traits.block_elements == 1) continue;
    file.tensor("t").dims = {static_cast<uint64_t>(traits.block_elements / 2), 2};  // the same number of elements
    ExpectRefused(file, "type of tensor \"t\"", "is not a whole number of " + std::string(traits.name) + " blocks");
  }
}

TEST(Gguf, Row53_UnknownAndRemovedTypesAreRefused) {
  for (const uint32_t type : {4u, 5u, 9u, 15u, 31u, 33u, 36u, 38u, 1000u, 0xffffffffu}) {
    GgufBuilder file;
    file.AddRaw("t", {256}, type, std::string(1024, '\0'));
    ExpectRefused(file, "type of tensor \"t\"", std::to_string(type) + " is not a known encoding");
  }
}

TEST(Gguf, Row54_DuplicatesAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  file.Append("general.name", 0, "x");
  ExpectRefused(file, "key \"general.name\"", "is a duplicate");
  GgufBuilder tensors = OneTensor();
  tensors.AddF32("u", {1}, std::vector<float>(1)).AddF32("t", {1}, std::vector<float>(1));
  ExpectRefused(tensors, "tensor name", "\"t\" is a duplicate");
}

TEST(Gguf, Row54_NamesAreShortPrintableAndNoPaths) {
  const std::string bad[] = {"", std::string("a\0b", 3), "../etc", "a/b", "a\\b", "a\nb", "\x7f", "\xc3\xa9"};
  for (const std::string& name : bad) {
    GgufBuilder keys;
    ExpectRefused(keys.Set(name, "x"), "key at byte 24", "");
    GgufBuilder tensors;
    ExpectRefused(tensors.AddF32(name, {1}, std::vector<float>(1)), "tensor name at byte 24", "");
  }
  GgufBuilder file;
  file.AddF32(std::string(kGgufMaxNameBytes, 'n'), {1}, std::vector<float>(1));
  EXPECT_THAT(GgufFile::Parse(AsBytes(file.Build())), IsOk());
  GgufBuilder longer;
  ExpectRefused(longer.AddF32(std::string(kGgufMaxNameBytes + 1, 'n'), {1}, std::vector<float>(1)), "tensor name",
                "length 64 is above the limit of 63");
}

TEST(Gguf, NamesInErrorsAreEscapedAndCut) {
  EXPECT_EQ(Quoted("a\n\x1b[31m\"é"), "\"a\\n\\x1b[31m\\\"\\xc3\\xa9\"");
  EXPECT_EQ(Quoted(std::string(81, 'x')), '"' + std::string(80, 'x') + "...\"");
}

// Every single byte of a header, changed: accepted or refused, never a crash, and nothing outside the file is seen.
TEST(Gguf, EveryByteOfTheHeaderFlipped) {
  const GgufBuilder file = TinyGguf("gemma3");
  const std::string bytes = file.Build();
  for (size_t i = 0; i < file.HeaderBytes(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::vector<std::byte> changed(AsBytes(bytes).begin(), AsBytes(bytes).end());
      changed[i] ^= static_cast<std::byte>(flip);
      const auto parsed = GgufFile::Parse(changed);
      if (!parsed.ok()) continue;
      for (const GgufTensor& tensor : parsed->tensors()) {
        ASSERT_GE(tensor.data.data(), changed.data());
        ASSERT_LE(tensor.data.data() + tensor.data.size(), changed.data() + changed.size());
      }
    }
  }
}

}  // namespace
}  // namespace nibble::engine
