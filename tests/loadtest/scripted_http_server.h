// An HTTP server with one answer.
#ifndef NIBBLE_TESTS_LOADTEST_SCRIPTED_HTTP_SERVER_H_
#define NIBBLE_TESTS_LOADTEST_SCRIPTED_HTTP_SERVER_H_

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace nibble::loadtest {

inline constexpr char kModels[] = R"({"data":[{"id":"m","meta":{"n_vocab":640}}]})";

// Answers each connection once, one after another: /v1/models with kModels, completions with `status` and `answer`.
class ScriptedServer {
 public:
  ScriptedServer(std::string status, std::string answer) : status_(std::move(status)), answer_(std::move(answer)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int peer; (peer = accept(listener_, nullptr, nullptr)) >= 0; close(peer)) Serve(peer);
    });
  }
  ~ScriptedServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  const std::string& address() const { return address_; }
  const std::string& last_request() const { return request_; }  // once its answer has come

 private:
  bool IsWhole() const {
    const size_t head = request_.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const size_t length = request_.find("Content-Length: ");
    return length == std::string::npos || request_.size() >= head + 4 + std::stoul(request_.substr(length + 16));
  }

  void Serve(int peer) {
    char buffer[4096];
    request_.clear();
    while (!IsWhole()) {
      const ssize_t got = read(peer, buffer, sizeof(buffer));
      if (got <= 0) return;
      request_.append(buffer, got);
    }
    const bool models = absl::StartsWith(request_, "GET /v1/models");
    const std::string reply = absl::StrCat("HTTP/1.1 ", models ? "200 OK" : status_, "\r\nConnection: close\r\n\r\n",
                                           models ? kModels : answer_);
    send(peer, reply.data(), reply.size(), MSG_NOSIGNAL);
  }

  const std::string status_;
  const std::string answer_;
  int listener_ = -1;
  std::string address_;
  std::string request_;
  std::thread thread_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_TESTS_LOADTEST_SCRIPTED_HTTP_SERVER_H_
