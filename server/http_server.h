// The plain HTTP port: a fixed table of paths, GET and HEAD only. Bounded everywhere: threads, header bytes, seconds
// per request; connections are closed after one answer. Handlers run on the server's threads and must not wait for the
// engine.
#ifndef NIBBLE_SERVER_HTTP_SERVER_H_
#define NIBBLE_SERVER_HTTP_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace nibble::server {

struct HttpReply {
  int status = 200;
  std::string body;
};

struct HttpOptions {
  int threads = 64;             // each may be held by a client that sends nothing
  int header_bytes = 16 << 10;  // request line and headers; more is refused
  absl::Duration request_timeout = absl::Seconds(2);
};

class HttpServer {
 public:
  using Handlers = std::map<std::string, std::function<HttpReply()>>;  // by path: "/metrics"

  // Listens on `address` ("HOST:PORT"; port 0: a free one). UNAVAILABLE where it cannot.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address, const HttpOptions& options,
                                                           Handlers handlers);
  ~HttpServer();

  // The address with the port that was bound.
  const std::string& address() const { return address_; }

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
  const std::string address_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_HTTP_SERVER_H_
