// The sum of what serving may need against the limit of the cgroup, over made-up trees of /proc and /sys.
#include "server/memory_limit.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace nibble::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Optional;

constexpr int64_t kGiB = int64_t{1} << 30;

class MemoryLimit : public testing::Test {
 protected:
  ~MemoryLimit() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  const std::filesystem::path root_ = std::filesystem::temp_directory_path() /
                                      absl::StrCat("nibble-memory-limit-", getpid(), "-",
                                                   testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(MemoryLimit, NoneWithoutCgroups) { EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt); }

TEST_F(MemoryLimit, OfAContainerIsAtTheMount) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/memory.max", "4294967296\n");
  EXPECT_THAT(CgroupMemoryLimit(root_), Optional(4 * kGiB));
}

TEST_F(MemoryLimit, IsTheLeastOfAGroupAndThoseAboveIt) {
  Write("proc/self/cgroup", "0::/pods/one/daemon\n");
  Write("sys/fs/cgroup/pods/memory.max", "8589934592\n");
  Write("sys/fs/cgroup/pods/one/memory.max", "2147483648\n");
  Write("sys/fs/cgroup/pods/one/daemon/memory.max", "max\n");
  EXPECT_THAT(CgroupMemoryLimit(root_), Optional(2 * kGiB));
}

TEST_F(MemoryLimit, IsFoundThoughTheGroupItselfIsNot) {
  Write("proc/self/cgroup", "0::/outside/of/the/container\n");
  Write("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_THAT(CgroupMemoryLimit(root_), Optional(kGiB));
}

TEST_F(MemoryLimit, OfTheFirstVersion) {
  Write("proc/self/cgroup", "5:cpu,cpuacct:/\n4:hugetlb,memory:/docker/1\n0::/\n");
  Write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "3221225472\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // what it writes for none
  EXPECT_THAT(CgroupMemoryLimit(root_), Optional(3 * kGiB));
}

TEST_F(MemoryLimit, WhatIsNoNumberIsNoLimit) {
  Write("proc/self/cgroup", "nonsense\n0::/\n\n");
  Write("sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);
}

TEST_F(MemoryLimit, ResidentIsTheAnonymousPart) {
  Write("proc/self/status", "Name:\tnibbled\nVmRSS:\t  9000 kB\nRssAnon:\t  2048 kB\n");
  EXPECT_EQ(ResidentBytes(root_), 2 << 20);
  Write("proc/self/status", "Name:\tnibbled\nVmRSS:\t  9000 kB\n");
  EXPECT_EQ(ResidentBytes(root_), 9000 << 10) << "all, where no part is told apart";
  EXPECT_GT(ResidentBytes(), 0);
}

TEST(CheckMemory, HoldsTheSumAndAFifthAgainstTheLimit) {
  const Limits limits = {.message_bytes = 1 << 20, .header_block_bytes = 64 << 10, .outbox_bytes = 256 << 10};
  const MemoryNeed need = {.model = kGiB, .kv_pages = 2 * kGiB, .adapters = kGiB, .connections = 1024};
  EXPECT_DOUBLE_EQ(need.total(limits), 1.2 * static_cast<double>(4 * kGiB + 1024 * (1344ll << 10)));
  const auto total = static_cast<int64_t>(std::ceil(need.total(limits)));
  EXPECT_TRUE(CheckMemory(need, limits, std::nullopt).ok());
  EXPECT_TRUE(CheckMemory(need, limits, total).ok());
  const absl::Status refused = CheckMemory(need, limits, total - 1);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("--kv-memory of 2048"), HasSubstr("--adapter-memory of 1024"),
                                       HasSubstr("--max-connections of 1.31 each, together 1344")));
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_FALSE(CheckMemory({.kv_pages = kMost, .adapters = kMost, .connections = 1024}, limits, kMost).ok());
}

}  // namespace
}  // namespace nibble::server
