// The commands `nibble chat` and `nibble-loadtest` before a daemon that wants to see a client certificate.
#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/certificates.h"
#include "tests/server/tenants_fixture.h"

namespace nibble::server {
namespace {

using testing::HasSubstr;

struct Outcome {
  int status = 0;
  std::string output;  // standard output and errors
};

Outcome Execute(const std::string& command) {
  FILE* const pipe = popen(absl::StrCat(command, " 2>&1").c_str(), "r");
  Outcome outcome;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) outcome.output.append(buffer, n);
  outcome.status = WEXITSTATUS(pclose(pipe));
  return outcome;
}

// Whose certificate is CN=gateway is a tenant without any key.
class ClientCertificates : public TenantsFixture {
 protected:
  void SetUp() override {
    tenants_ += TenantText("by-certificate", "unused", "certificate_subjects: \"CN=gateway\"");
    TenantsFixture::SetUp();
  }
  void PrepareFolder() override {
    WritePair("server", ca_.Issue("server"));
    const PemPair own = clients_.Issue("gateway");
    WritePair("client", own);
    WritePair("stranger", ca_.Issue("gateway"));
    WriteFile("ca.pem", ca_.pem());
    WriteFile("clients.pem", clients_.pem());
    options_.identity.tls = {
        .certificate = PathOf("server.cert"), .key = PathOf("server.key"), .client_ca = PathOf("clients.pem")};
    credentials_ = grpc::SslCredentials({ca_.pem(), own.key, own.certificate});
  }
  void WritePair(const std::string& name, const PemPair& pair) const {
    WriteFile(name + ".cert", pair.certificate);
    WriteFile(name + ".key", pair.key);
  }

  std::string Pair(const std::string& name) const {
    return absl::StrCat(" --tls-cert=", PathOf(name + ".cert"), " --tls-key=", PathOf(name + ".key"));
  }
  std::string Ca() const { return " --tls-ca=" + PathOf("ca.pem"); }
  Outcome Chat(const std::string& flags) const {
    return Execute(
        absl::StrCat(NIBBLE, " chat --server=", daemon_->grpc_address(), " --max-tokens=4", flags, " hello"));
  }
  Outcome LoadTest(const std::string& flags) const {
    return Execute(absl::StrCat(NIBBLE_LOADTEST, " --target=grpc://", daemon_->grpc_address(),
                                " --requests=2 --input-tokens=4 --output-tokens=4", flags));
  }

  const TestCa ca_{"servers"};
  const TestCa clients_{"clients"};
};

TEST_F(ClientCertificates, LetTheirOwnersIn) {
  const Outcome chat = Chat(Ca() + Pair("client"));
  EXPECT_EQ(chat.status, 0) << chat.output;
  EXPECT_EQ(chat.output.size(), 5u) << chat.output;  // four letters and a line's end
  const Outcome load = LoadTest(Ca() + Pair("client"));
  EXPECT_EQ(load.status, 0) << load.output;
  EXPECT_EQ(LoadTest(Ca() + Pair("client") + " --warmup=1").status, 0);
}

TEST_F(ClientCertificates, WithoutOneOrWithAnothersNobodyIsLetIn) {
  for (const std::string& flags : {Ca(), Ca() + Pair("stranger")}) {
    const Outcome chat = Chat(flags);
    EXPECT_EQ(chat.status, 1) << chat.output;
    const Outcome load = LoadTest(flags);
    EXPECT_EQ(load.status, 1) << load.output;
  }
}

TEST_F(ClientCertificates, FlagsThatDoNotGoTogetherAreWrongUsage) {
  const std::string certificate = " --tls-cert=" + PathOf("client.cert"), key = " --tls-key=" + PathOf("client.key");
  const struct {
    std::string flags;
    const char* why;
  } cases[] = {{Ca() + certificate, "--tls-cert, --tls-key: one is nothing without the other"},
               {Ca() + key, "--tls-cert, --tls-key: one is nothing without the other"},
               {certificate + key, "--tls-cert: needs --tls-ca"},
               {Ca() + certificate + " --tls-key=/no/such/file", "/no/such/file"}};
  for (const auto& c : cases) {
    for (const Outcome& outcome : {Chat(c.flags), LoadTest(c.flags)}) {
      EXPECT_EQ(outcome.status, 2) << outcome.output;
      EXPECT_THAT(outcome.output, HasSubstr(c.why));
    }
  }
}

}  // namespace
}  // namespace nibble::server
