#include "tests/server/tenants_fixture.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "engine/weights/sha256.h"

namespace nibble::server {

std::string TenantText(const std::string& name, const std::string& key, const std::string& more) {
  return absl::StrCat("tenants { name: \"", name, "\" key_sha256: \"", engine::Sha256Hex(key), "\" ", more, " }\n");
}

void TenantsFixture::SetUp() {
  std::string pattern = testing::TempDir() + "/nibble-tenants-XXXXXX";
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  folder_ = pattern;
  WriteTenants(tenants_);
  options_.identity.tenants = PathOf("tenants.textproto");
  key_ = kAliceKey;
  PrepareFolder();
  StartDaemon();
}

void TenantsFixture::TearDown() {
  ServerFixture::TearDown();
  StopDaemon();
  std::filesystem::remove_all(folder_);
}

void TenantsFixture::WriteFile(const std::string& name, const std::string& text) const {
  std::ofstream(PathOf("new")) << text;
  std::filesystem::permissions(PathOf("new"), std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::rename(PathOf("new"), PathOf(name));
}

}  // namespace nibble::server
