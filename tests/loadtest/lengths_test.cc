#include "loadtest/lengths.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;

std::vector<int64_t> Draws(const std::string& text, int count) {
  const absl::StatusOr<Lengths> lengths = Lengths::Parse(text);
  EXPECT_THAT(lengths, IsOk()) << text;
  std::mt19937_64 random(5);
  std::vector<int64_t> draws;
  for (int i = 0; i < count; ++i) draws.push_back(lengths->Draw(random));
  return draws;
}

class TextFile {
 public:
  explicit TextFile(const std::string& text) : path_(testing::TempDir() + "/lengths_test.txt") {
    std::ofstream(path_) << text;
  }
  ~TextFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

TEST(Lengths, ANumberIsExact) { EXPECT_EQ(Draws("77", 3), (std::vector<int64_t>{77, 77, 77})); }

TEST(Lengths, UniformCoversBothEndsEvenly) {
  const std::vector<int64_t> draws = Draws("uniform:3:6", 40'000);
  for (int64_t tokens = 3; tokens <= 6; ++tokens) {
    EXPECT_NEAR(std::count(draws.begin(), draws.end(), tokens), 10'000, 400) << tokens;
  }
}

TEST(Lengths, LogNormalHasItsMedianAndSigma) {
  std::vector<int64_t> draws = Draws("lognormal:1000:0.5", 40'000);
  std::sort(draws.begin(), draws.end());
  EXPECT_NEAR(static_cast<double>(draws[20'000]), 1000, 15);
  EXPECT_NEAR(static_cast<double>(draws[33'654]), 1000 * std::exp(0.5), 40);  // one sigma above
}

TEST(Lengths, AFileIsDrawnFromEvenly) {
  const TextFile file("5\n5\n 9\n");
  const std::vector<int64_t> draws = Draws("file:" + file.path(), 30'000);
  EXPECT_NEAR(std::count(draws.begin(), draws.end(), 5), 20'000, 400);
  EXPECT_NEAR(std::count(draws.begin(), draws.end(), 9), 10'000, 400);
}

TEST(Lengths, RefusalsSayWhy) {
  for (const char* text : {"", "0", "-1", "x", "10000001", "uniform:1", "uniform:5:4", "uniform:0:4", "lognormal:10:-1",
                           "lognormal:10:nan", "lognormal:0:1", "zipf:1:2", "file:/no/such/file"}) {
    EXPECT_THAT(Lengths::Parse(text), StatusIs(absl::StatusCode::kInvalidArgument, testing::_)) << text;
  }
  const TextFile file("5\nfive\n");
  EXPECT_THAT(Lengths::Parse("file:" + file.path()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(":2:")));
}

}  // namespace
}  // namespace nibble::loadtest
