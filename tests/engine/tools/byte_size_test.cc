#include "engine/tools/byte_size.h"

#include "gmock/gmock.h"

namespace nibble::engine {
namespace {

TEST(ByteSize, ReadsWholeNumbersAndUnits) {
  const struct {
    const char* text;
    int64_t bytes;
  } kCases[] = {{"0", 0}, {"17", 17}, {"64KiB", 65536}, {"512MiB", 536870912}, {"3GiB", 3221225472}};
  for (const auto& c : kCases) {
    ByteSize size;
    std::string error;
    EXPECT_TRUE(AbslParseFlag(c.text, &size, &error)) << c.text << ": " << error;
    EXPECT_EQ(size.bytes, c.bytes);
    EXPECT_EQ(AbslUnparseFlag(size), c.text);
  }
}

TEST(ByteSize, RefusesEverythingElse) {
  for (const char* text : {"", "KiB", "-1", "+1", "1.5GiB", "1GB", "1 GiB", "1gib", "0x10", "9223372036854775807KiB",
                           "99999999999999999999", "1MiBMiB"}) {
    ByteSize size{7};
    std::string error;
    EXPECT_FALSE(AbslParseFlag(text, &size, &error)) << text;
    EXPECT_NE(error, "");
    EXPECT_EQ(size.bytes, 7);
  }
}

}  // namespace
}  // namespace nibble::engine
