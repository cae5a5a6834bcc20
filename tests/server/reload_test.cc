// Tenants that change while the daemon serves.
#include <filesystem>
#include <fstream>

#include "absl/time/clock.h"
#include "tests/server/tenants_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;

class ServerReload : public TenantsFixture {
 protected:
  StatusCode Code(const std::string& key) { return GenerateAs(key, Ask("hello")).status.error_code(); }
  bool EventuallyAnswers(const std::string& key, StatusCode code) {
    return Eventually([&] { return Code(key) == code; });
  }
};

TEST_F(ServerReload, Row31_ARevokedKeyIsRefusedAndANewOneTaken) {
  ASSERT_EQ(Code(kBobKey), StatusCode::OK);
  WriteTenants(TenantText("alice", kAliceKey) + TenantText("carol", "carols-key"));
  EXPECT_TRUE(EventuallyAnswers(kBobKey, StatusCode::UNAUTHENTICATED));
  EXPECT_EQ(Code("carols-key"), StatusCode::OK);
  EXPECT_EQ(Code(kAliceKey), StatusCode::OK);
}

TEST_F(ServerReload, AFileThatIsWrongChangesNothing) {
  WriteTenants("tenants { name: \"alice\" ");
  WriteTenants(TenantText("", "k"));
  std::filesystem::remove(PathOf("tenants.textproto"));
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(Code(kBobKey), StatusCode::OK);
  WriteTenants(TenantText("alice", kAliceKey));
  EXPECT_TRUE(EventuallyAnswers(kBobKey, StatusCode::UNAUTHENTICATED));
}

// Kubernetes: the file is a link through `..data`, which is swapped.
class ServerReloadByLink : public ServerReload {
 protected:
  void SetUp() override {
    ServerReload::SetUp();
    StopDaemon();
    Put("..1", TenantText("alice", kAliceKey) + TenantText("bob", kBobKey));
    std::filesystem::create_symlink("..1", PathOf("..data"));
    std::filesystem::create_symlink("..data/linked", PathOf("linked"));
    options_.identity.tenants = PathOf("linked");
    StartDaemon();
  }
  void Put(const std::string& folder, const std::string& text) {
    std::filesystem::create_directory(PathOf(folder));
    std::ofstream(PathOf(folder + "/linked")) << text;
  }
};

TEST_F(ServerReloadByLink, TheSwapOfTheLinkIsNoticed) {
  ASSERT_EQ(Code(kBobKey), StatusCode::OK);
  Put("..2", TenantText("alice", kAliceKey));
  std::filesystem::create_symlink("..2", PathOf("..data_tmp"));
  std::filesystem::rename(PathOf("..data_tmp"), PathOf("..data"));
  EXPECT_TRUE(EventuallyAnswers(kBobKey, StatusCode::UNAUTHENTICATED));
  EXPECT_EQ(Code(kAliceKey), StatusCode::OK);
}

}  // namespace
}  // namespace nibble::server
