#include "server/listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

class ListenerTest : public ServerFixture {
 protected:
  void SetUp() override {}  // no daemon
  void TearDown() override {
    for (const int fd : clients_) close(fd);
    if (listener_ != nullptr) listener_->Stop();
    absl::MutexLock lock(&mu_);
    for (const int fd : taken_) close(fd);
  }

  void Listen(const std::string& address, int64_t connections) {
    auto bound = Listener::Bind(address, {.connections = connections, .unacked_timeout = absl::Seconds(1)});
    ASSERT_TRUE(bound.ok()) << bound.status();
    listener_ = *std::move(bound);
    listener_->Start([this](int fd) {
      absl::MutexLock lock(&mu_);
      taken_.push_back(fd);
    });
  }
  size_t taken() {
    absl::MutexLock lock(&mu_);
    return taken_.size();
  }
  void CloseFirstTaken() {
    absl::MutexLock lock(&mu_);
    close(taken_.front());
    taken_.erase(taken_.begin());
  }
  int Dial() { return clients_.emplace_back(Connect(listener_->address())); }
  static bool HungUp(int fd) {
    pollfd polled = {fd, POLLIN, 0};
    char byte = 0;
    return poll(&polled, 1, /*timeout=*/30'000) == 1 && recv(fd, &byte, 1, 0) <= 0;
  }

  std::unique_ptr<Listener> listener_;
  absl::Mutex mu_;
  std::vector<int> taken_ ABSL_GUARDED_BY(mu_);
  std::vector<int> clients_;
};

TEST_F(ListenerTest, Row22_OneConnectionPastTheLimitIsTurnedAway) {
  Listen("127.0.0.1:0", 2);
  Dial();
  Dial();
  ASSERT_TRUE(Eventually([this] { return taken() == 2; }));
  EXPECT_FALSE(listener_->full());
  EXPECT_TRUE(HungUp(Dial()));
  EXPECT_TRUE(listener_->full());
  EXPECT_EQ(taken(), 2u);

  CloseFirstTaken();
  Dial();
  EXPECT_TRUE(Eventually([this] { return taken() == 2; }));
  EXPECT_FALSE(listener_->full());
}

TEST_F(ListenerTest, Row21_AcceptsAgainOnceThereAreDescriptors) {
  Listen("127.0.0.1:0", 100);
  const int dialed = Dial();
  ASSERT_TRUE(Eventually([this] { return taken() == 1; }));
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);  // before there are none left
  clients_.push_back(client);
  sockaddr_storage server = {};
  socklen_t size = sizeof(server);
  ASSERT_EQ(getpeername(dialed, reinterpret_cast<sockaddr*>(&server), &size), 0);
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit few = {64, limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  std::vector<int> hoard;
  for (int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); fd >= 0; fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) {
    hoard.push_back(fd);
  }
  ASSERT_EQ(connect(client, reinterpret_cast<sockaddr*>(&server), size), 0);  // as far as the backlog
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(taken(), 1u);
  for (const int fd : hoard) close(fd);
  setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_TRUE(Eventually([this] { return taken() == 2; }));
}

TEST_F(ListenerTest, BindsNamesAndSaysWhichPort) {
  for (const char* address : {"127.0.0.1:0", "0.0.0.0:0", "localhost:0"}) {
    listener_.reset();
    Listen(address, 10);
    const std::string bound = listener_->address();
    EXPECT_EQ(bound.substr(0, bound.rfind(':')), std::string(address).substr(0, std::string(address).rfind(':')));
    EXPECT_NE(bound.substr(bound.rfind(':')), ":0");
  }
}

TEST_F(ListenerTest, RefusesWhatCannotBe) {
  Listen("127.0.0.1:0", 10);
  for (const std::string& address :
       {listener_->address(), std::string("127.0.0.1"), std::string("127.0.0.1:70000"), std::string("192.0.2.1:0")}) {
    const absl::Status status = Listener::Bind(address, Listener::Options()).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(address));
  }
}

}  // namespace
}  // namespace nibble::server
