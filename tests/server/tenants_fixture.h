// A daemon with two tenants, one of which is an admin, and a client with their keys.
#ifndef NIBBLE_TESTS_SERVER_TENANTS_FIXTURE_H_
#define NIBBLE_TESTS_SERVER_TENANTS_FIXTURE_H_

#include <string>

#include "tests/server/server_fixture.h"

namespace nibble::server {

inline constexpr char kAliceKey[] = "alice-7d0f4c2b9e81";
inline constexpr char kBobKey[] = "bob-51b0aa37c6f2";
inline constexpr char kAdminKey[] = "admin-e42c9d77a1b5";

// "tenants { name: NAME key_sha256: … MORE }".
std::string TenantText(const std::string& name, const std::string& key, const std::string& more = "");

class TenantsFixture : public ServerFixture {
 protected:
  void SetUp() override;
  void TearDown() override;
  // Before the daemon starts; the folder is there.
  virtual void PrepareFolder() {}
  void WriteTenants(const std::string& text) const { WriteFile("tenants.textproto", text); }
  // Takes the file's place in one step; nobody else may read it.
  void WriteFile(const std::string& name, const std::string& text) const;
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }

  std::string tenants_ =
      TenantText("alice", kAliceKey) + TenantText("bob", kBobKey) + TenantText("ops", kAdminKey, "admin: true");

 private:
  std::string folder_;
};

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_TENANTS_FIXTURE_H_
