// Row 61 of the robustness table: what happens to a file after it was read has no effect.
#include "engine/weights/regular_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

class RegularFileTest : public testing::Test {
 protected:
  RegularFileTest() : path_(testing::TempDir() + "regular_file_" + std::to_string(getpid())) {}
  ~RegularFileTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

  const std::string path_;
};

TEST_F(RegularFileTest, Row61_TruncatedAfterwards) {
  Write(std::string(100000, 'a'));
  const auto bytes = ReadFile(path_, 100000);
  ASSERT_THAT(bytes, IsOk());
  std::filesystem::resize_file(path_, 0);
  EXPECT_EQ(*bytes, std::vector<std::byte>(100000, std::byte{'a'}));
}

TEST_F(RegularFileTest, ALargeFileComesInPieces) {
  std::string text(600'000, ' ');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i % 251);
  Write(text);
  const auto file = RegularFile::Open(path_);
  ASSERT_THAT(file, IsOk());
  int pauses = 0;
  const auto bytes = ReadDescriptor(file->descriptor(), file->size_bytes(), path_, [&] { ++pauses; });
  ASSERT_THAT(bytes, IsOk());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()), text);
  EXPECT_GE(pauses, 3);
}

TEST_F(RegularFileTest, AnEmptyFileHasNoBytes) {
  Write("");
  const auto bytes = ReadFile(path_, 0);
  ASSERT_THAT(bytes, IsOk());
  EXPECT_TRUE(bytes->empty());
}

TEST_F(RegularFileTest, RefusesWhatIsTooLarge) {
  Write("abc");
  EXPECT_THAT(ReadFile(path_, 2), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("limit of 2")));
}

TEST_F(RegularFileTest, RefusesWhatIsNotAFile) {
  EXPECT_THAT(ReadFile(path_, 10), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path_)));
  EXPECT_THAT(ReadFile(testing::TempDir(), 10),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not a regular file")));
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(ReadFile(path_, 10), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not a regular file")));
}

}  // namespace
}  // namespace nibble::engine
