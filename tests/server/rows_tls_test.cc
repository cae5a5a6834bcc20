// Rows of the robustness table about TLS: who gets through the handshake, and certificates that change under traffic.
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/time/clock.h"
#include "server/tls_files.h"
#include "tests/base/status_matchers.h"
#include "tests/server/certificates.h"
#include "tests/server/tenants_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class ServerRowsTls : public TenantsFixture {
 protected:
  void SetUp() override {
    options_.identity.tls = {.certificate = "cert.pem", .key = "key.pem", .client_ca = ""};
    Configure();
    TenantsFixture::SetUp();
  }
  virtual void Configure() {}
  void PrepareFolder() override {
    WritePair(ca_.Issue("server"));
    WriteFile("ca.pem", clients_.pem());
    TlsFiles& tls = options_.identity.tls;
    for (std::string* path : {&tls.certificate, &tls.key, &tls.client_ca}) {
      if (!path->empty()) *path = PathOf(*path);
    }
    credentials_ = ClientCredentials(own_);
  }

  void WritePair(const PemPair& pair) const {
    WriteFile("key.pem", pair.key);
    WriteFile("cert.pem", pair.certificate);
  }
  std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const PemPair& own) const {
    return grpc::SslCredentials({ca_.pem(), own.key, own.certificate});
  }
  // Of a call over a connection of its own.
  grpc::Status Dial(const std::shared_ptr<grpc::ChannelCredentials>& credentials, const std::string& key = kAliceKey) {
    credentials_ = credentials;
    const auto stub = v1::Inference::NewStub(NewChannel());
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
    AddKey(context, key);
    v1::ListModelsResponse models;
    return stub->ListModels(&context, v1::ListModelsRequest(), &models);
  }
  int ConnectGrpc() const { return Connect(daemon_->grpc_address()); }
  // Serial number of the server's certificate after a handshake of at most this version; -1: it failed.
  long Handshake(int version) const {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_set_security_level(context.get(), 0);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context.get(), version);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    const unsigned char h2[] = {2, 'h', '2'};
    SSL_set_alpn_protos(ssl.get(), h2, sizeof(h2));
    const int fd = ConnectGrpc();
    SSL_set_fd(ssl.get(), fd);
    long serial = -1;
    if (SSL_connect(ssl.get()) == 1) {
      X509* const certificate = SSL_get1_peer_certificate(ssl.get());
      serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));
      X509_free(certificate);
    }
    close(fd);
    return serial;
  }

  const TestCa ca_{"servers"};
  const TestCa clients_{"clients"};
  PemPair own_;  // of the client
};

TEST_F(ServerRowsTls, Row34_Tls12IsTheOldestThatIsSpoken) {
  EXPECT_GT(Handshake(TLS1_3_VERSION), 0);
  EXPECT_GT(Handshake(TLS1_2_VERSION), 0);
  EXPECT_EQ(Handshake(TLS1_1_VERSION), -1);
  EXPECT_EQ(Dial(grpc::InsecureChannelCredentials()).error_code(), StatusCode::UNAVAILABLE);
}

TEST_F(ServerRowsTls, TheKeyStillSaysWhoCalls) {
  EXPECT_TRUE(Dial(ClientCredentials({})).ok());
  EXPECT_EQ(Dial(ClientCredentials({}), "").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(HttpGet("/livez"), HasSubstr("alive"));
}

TEST_F(ServerRowsTls, Row34_APairThatDoesNotFitIsNotTaken) {
  const long serial = Handshake(TLS1_3_VERSION);
  const PemPair next = ca_.Issue("next");
  WriteFile("cert.pem", next.certificate);        // the old key
  WriteFile("key.pem", next.key.substr(0, 100));  // half of the new one
  WritePair(ca_.Issue("expired", -1));
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(Handshake(TLS1_3_VERSION), serial);
  WritePair(next);
  EXPECT_TRUE(Eventually([&] { return Handshake(TLS1_3_VERSION) != serial; }));
}

TEST_F(ServerRowsTls, Row34_NoCallIsLostWhileCertificatesChange) {
  const long serial = Handshake(TLS1_3_VERSION);
  std::atomic<bool> stop = false;
  std::atomic<int> answered = 0, lost = 0;
  std::vector<std::thread> clients;
  const auto credentials = ClientCredentials({});
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const auto channel = grpc::CreateChannel(daemon_->grpc_address(), credentials);
        const auto stub = v1::Inference::NewStub(channel);
        grpc::ClientContext context;
        AddKey(context, kAliceKey);
        (ReadAll(context, *stub->Generate(&context, Ask("hello"))).status.ok() ? answered : lost) += 1;
      }
    });
  }
  for (int swap = 0; swap < 10; ++swap) {
    WritePair(ca_.Issue("server"));
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_TRUE(Eventually([&] { return answered > 20; }));
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(lost, 0);
  EXPECT_GT(Handshake(TLS1_3_VERSION), serial);
}

class ServerRowsMutualTls : public ServerRowsTls {
 protected:
  void Configure() override {
    options_.identity.tls.client_ca = "ca.pem";
    own_ = clients_.Issue("gateway");
    tenants_ += TenantText("by-certificate", "unused", "certificate_subjects: \"CN=gateway\" admin: true");
  }
};

TEST_F(ServerRowsMutualTls, Row34_OnlyACertificateOfTheClientCaGetsThrough) {
  EXPECT_TRUE(Dial(ClientCredentials(own_)).ok());
  const TestCa others("others");
  EXPECT_EQ(Dial(ClientCredentials({})).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Dial(ClientCredentials(others.Issue("gateway"))).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Dial(ClientCredentials(ca_.Issue("gateway"))).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Dial(ClientCredentials(clients_.Issue("gateway", -1))).error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(HttpGet("/livez"), HasSubstr("alive"));
}

TEST_F(ServerRowsMutualTls, TheSubjectOfTheCertificateSaysWhoCalls) {
  EXPECT_TRUE(Dial(ClientCredentials(own_), "").ok());
  EXPECT_EQ(Dial(ClientCredentials(own_), "wrong").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Dial(ClientCredentials(clients_.Issue("stranger")), "").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(Dial(ClientCredentials(clients_.Issue("stranger")), kAliceKey).ok());
}

class ServerRowsStalledHandshake : public ServerRowsTls {
 protected:
  void Configure() override { options_.limits.handshake_timeout = absl::Milliseconds(500); }
};

TEST_F(ServerRowsStalledHandshake, Row35_AConnectionThatDoesNotShakeHandsIsClosed) {
  const absl::Time start = absl::Now();
  const int silent = ConnectGrpc();
  const int slow = ConnectGrpc();
  ASSERT_EQ(send(slow, "\x16", 1, MSG_NOSIGNAL), 1);
  for (const int fd : {silent, slow}) {
    const timeval patience = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    char byte;
    ssize_t got;
    while ((got = recv(fd, &byte, 1, 0)) == 1) {
    }
    EXPECT_TRUE(got == 0 || errno == ECONNRESET) << "still open";
    close(fd);
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(4));
  EXPECT_TRUE(Dial(ClientCredentials({})).ok());
}

TEST_F(ServerRowsTls, Row69_ErrorsNameTheFileOfCertificates) {
  const TlsFiles& files = options_.identity.tls;
  const auto refused = [&](absl::StatusCode code, const std::string& file, const std::string& why) {
    EXPECT_THAT(ReadTlsFiles(files).status(), StatusIs(code, testing::AllOf(HasSubstr(PathOf(file)), HasSubstr(why))));
  };
  const PemPair pair = ca_.Issue("server");
  WritePair(pair);
  ASSERT_THAT(ReadTlsFiles(files).status(), IsOk());
  chmod(files.key.c_str(), 0604);
  refused(absl::StatusCode::kFailedPrecondition, "key.pem", "everyone");
  WriteFile("key.pem", ca_.Issue("another").key);
  refused(absl::StatusCode::kInvalidArgument, "key.pem", "is not the key of");
  WriteFile("key.pem", "no key");
  refused(absl::StatusCode::kInvalidArgument, "key.pem", "no private key");
  WritePair(ca_.Issue("server", -1));
  refused(absl::StatusCode::kInvalidArgument, "cert.pem", "expired");
  WriteFile("cert.pem", "no certificate");
  refused(absl::StatusCode::kInvalidArgument, "cert.pem", "no certificate");
  unlink(files.certificate.c_str());
  refused(absl::StatusCode::kNotFound, "cert.pem", "");
}

}  // namespace
}  // namespace nibble::server
