#include "loadtest/mix.h"

#include <algorithm>
#include <sstream>

#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<Request> Requests(size_t count) {
  return std::vector<Request>(count, Request{.prompt = {1}, .output_tokens = 8});
}

int64_t Asking(const std::vector<Request>& requests, const std::string& adapter) {
  return std::count_if(requests.begin(), requests.end(), [&](const Request& r) { return r.adapter == adapter; });
}

TEST(Adapters, UniformAndZipf) {
  std::vector<Request> requests = Requests(11000);
  AssignAdapters({{"a", "b", "c"}, true}, 5, requests);
  EXPECT_NEAR(Asking(requests, "a"), 6000, 250);  // 1 : 1/2 : 1/3 of 11000
  EXPECT_NEAR(Asking(requests, "b"), 3000, 250);
  EXPECT_NEAR(Asking(requests, "c"), 2000, 250);
  AssignAdapters({{"a", "b"}, false}, 5, requests);
  EXPECT_NEAR(Asking(requests, "a"), 5500, 250);
  EXPECT_EQ(Asking(requests, "c"), 0);
}

TEST(Adapters, NoneLeavesTheModelItself) {
  std::vector<Request> requests = Requests(3);
  AssignAdapters({}, 5, requests);
  EXPECT_EQ(Asking(requests, ""), 3);
}

TEST(Mix, AConversationKeepsItsAdapterAndItsTenant) {
  std::vector<Request> requests = Requests(300);
  for (int64_t i = 0; i < 300; ++i) requests[i].follows = i % 3 == 0 ? -1 : i - 1;
  AssignAdapters({{"a", "b"}, false}, 5, requests);
  AssignTenants({{"x", "kx", 1}, {"y", "ky", 1}}, 5, requests);
  for (size_t i = 0; i < 300; ++i) {
    EXPECT_EQ(requests[i].adapter, requests[i - i % 3].adapter);
    EXPECT_EQ(requests[i].tenant, requests[i - i % 3].tenant);
    EXPECT_EQ(requests[i].key, "k" + requests[i].tenant);
  }
  EXPECT_GT(Asking(requests, "a"), 0);
  EXPECT_GT(Asking(requests, "b"), 0);
}

TEST(Tenants, ShareTheRequestsAsTheyAreTold) {
  std::istringstream lines("# name key share\n\nbig  k1 9\nsmall\tk2 1\r\n");
  const absl::StatusOr<std::vector<Tenant>> tenants = ParseTenants(lines, "file");
  ASSERT_THAT(tenants, IsOk());
  std::vector<Request> requests = Requests(10000);
  AssignTenants(*tenants, 5, requests);
  const auto big = std::count_if(requests.begin(), requests.end(), [](const Request& r) { return r.tenant == "big"; });
  EXPECT_NEAR(big, 9000, 150);
}

TEST(Tenants, RefusalsNameTheLineAndNoKey) {
  for (const char* text : {"a secret 1\nb secret\n", "a secret 1\nb secret 0\n", "a secret 1\nb secret nan\n",
                           "a secret 1\na secret 1\n", "a secret 1\nb c secret 1\n"}) {
    std::istringstream lines(text);
    const auto tenants = ParseTenants(lines, "file");
    EXPECT_THAT(tenants, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("file:2: "))) << text;
    EXPECT_THAT(tenants, StatusIs(absl::StatusCode::kInvalidArgument, Not(HasSubstr("secret")))) << text;
  }
  std::istringstream none("# nobody\n");
  EXPECT_THAT(ParseTenants(none, "file"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no tenants")));
}

TEST(Stalls, AreAShareOfThoseThatAreNotCancelled) {
  std::vector<Request> requests = Requests(1000);
  for (size_t i = 0; i < 500; ++i) requests[i].cancel_after = 2;
  AssignStalls({0.5, std::chrono::milliseconds(7)}, 5, requests);
  int64_t stalled = 0;
  for (size_t i = 0; i < 1000; ++i) {
    EXPECT_LT(requests[i].stall_after, 8);
    if (requests[i].stall_after < 0) continue;
    EXPECT_GE(i, 500u);
    EXPECT_EQ(requests[i].stall_time, std::chrono::milliseconds(7));
    ++stalled;
  }
  EXPECT_NEAR(stalled, 250, 50);
}

}  // namespace
}  // namespace nibble::loadtest
