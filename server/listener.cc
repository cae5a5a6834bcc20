#include "server/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

constexpr int kBacklog = 1024;
constexpr int kRetryMs = 100;  // while there are no descriptors

void SetOption(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof(value)); }

// A listening socket, or -1.
int ListenAt(const addrinfo& info) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  // Without SO_REUSEPORT: a second daemon is told that the port is taken.
  SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (info.ai_family == AF_INET6) SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (bind(fd, info.ai_addr, info.ai_addrlen) == 0 && listen(fd, kBacklog) == 0) return fd;
  close(fd);
  return -1;
}

int PortOf(int fd) {
  sockaddr_in6 address = {};  // the port of IPv4 is at the same place
  socklen_t size = sizeof(address);
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 ? ntohs(address.sin6_port) : 0;
}

void SetPort(addrinfo& info, int port) {
  reinterpret_cast<sockaddr_in6*>(info.ai_addr)->sin6_port = htons(static_cast<uint16_t>(port));
}

ino_t InodeOf(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(const std::string& address, const Options& options) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address, ": not HOST:PORT"));
  }
  const std::string host = address.substr(0, colon);
  std::unique_ptr<Listener> listener(new Listener(options));
  const absl::string_view name = absl::StripSuffix(absl::StripPrefix(host, "["), "]");
  if (const absl::Status bound = listener->BindAll(std::string(name), absl::StrCat(port)); !bound.ok()) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
  listener->address_ = absl::StrCat(host, ":", PortOf(listener->listening_[0]));
  return listener;
}

absl::Status Listener::BindAll(const std::string& host, const std::string& port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) return absl::UnavailableError("no such host");
  for (addrinfo* info = found; info != nullptr; info = info->ai_next) {
    if (!listening_.empty()) SetPort(*info, PortOf(listening_[0]));
    if (const int fd = ListenAt(*info); fd >= 0) listening_.push_back(fd);
  }
  freeaddrinfo(found);
  stop_ = eventfd(0, EFD_CLOEXEC);
  return listening_.empty() || stop_ < 0 ? absl::UnavailableError("no address") : absl::OkStatus();
}

Listener::~Listener() {
  Stop();
  if (stop_ >= 0) close(stop_);
}

void Listener::Start(std::function<void(int fd)> take) {
  take_ = std::move(take);
  thread_ = std::thread([this] { Run(); });
}

void Listener::Stop() {
  if (thread_.joinable()) {
    eventfd_write(stop_, 1);
    thread_.join();
  }
  for (const int fd : listening_) close(fd);
  listening_.clear();
}

void Listener::Run() {
  std::vector<pollfd> polled = {{stop_, POLLIN, 0}};
  for (const int fd : listening_) polled.push_back({fd, POLLIN, 0});
  while (true) {
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    bool room = true;
    for (size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents != 0) room = AcceptOne(polled[i].fd) && room;
    }
    // What waits in the backlog would be reported again at once.
    if (!room) poll(polled.data(), 1, kRetryMs);
  }
}

bool Listener::AcceptOne(int listening) {
  const int fd = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) Admit(fd);
  return fd >= 0 || (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM);
}

void Listener::Admit(int fd) {
  if (static_cast<int64_t>(connections_.size()) >= options_.connections) ForgetClosed();
  full_ = static_cast<int64_t>(connections_.size()) >= options_.connections;
  if (full_) {
    close(fd);
    return;
  }
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(absl::ToInt64Milliseconds(options_.unacked_timeout)));
  connections_.push_back({fd, InodeOf(fd)});
  take_(fd);
}

void Listener::ForgetClosed() {
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [](const Connection& c) { return InodeOf(c.fd) != c.inode; }),
                     connections_.end());
}

}  // namespace nibble::server
