#include "server/http_server.h"

#include <civetweb.h>

#include <chrono>
#include <future>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"

namespace nibble::server {
namespace {

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

void Send(mg_connection* connection, const HttpReply& reply, bool with_body) {
  const std::string head =
      absl::StrCat("HTTP/1.1 ", reply.status, " ", ReasonPhrase(reply.status),
                   "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: ", reply.body.size(),
                   reply.status == 405 ? "\r\nAllow: GET, HEAD" : "", "\r\nConnection: close\r\n\r\n");
  mg_write(connection, head.data(), head.size());
  if (with_body) mg_write(connection, reply.body.data(), reply.body.size());
}

HttpReply Answer(const HttpServer::Handlers& handlers, std::string_view method, const std::string& path) {
  if (method != "GET" && method != "HEAD") return {405, "method not allowed\n"};
  const auto handler = handlers.find(path);
  if (handler == handlers.end()) return {404, "not found\n"};
  return handler->second();
}

// Takes every request, so nothing of the library's own is served. Returns the status: the request is dealt with.
int OnRequest(mg_connection* connection) {
  const mg_request_info* info = mg_get_request_info(connection);
  const auto& handlers = *static_cast<const HttpServer::Handlers*>(info->user_data);
  const std::string_view method = info->request_method;
  const HttpReply reply = Answer(handlers, method, info->local_uri == nullptr ? "" : info->local_uri);
  Send(connection, reply, method != "HEAD");
  return reply.status;
}

// The library's messages name addresses and clients; what matters is told by the status that Start returns.
int OnLibraryMessage(const mg_connection*, const char*) { return 1; }

}  // namespace

struct HttpServer::State {
  Handlers handlers;
  mg_callbacks callbacks = {};
  mg_context* context = nullptr;
  std::string host;
  int port = 0;

  ~State();
};

// The library's accepting thread looks at its stop flag only every two seconds, or when a connection comes.
HttpServer::State::~State() {
  if (context == nullptr) return;
  std::future<void> stopped = std::async(std::launch::async, [this] { mg_stop(context); });
  const auto patience = std::chrono::milliseconds(5);
  while (stopped.wait_for(patience) == std::future_status::timeout) {
    char error[128];
    mg_connection* knock = mg_connect_client(host.c_str(), port, /*use_ssl=*/0, error, sizeof(error));
    if (knock != nullptr) mg_close_connection(knock);
  }
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, const HttpOptions& options,
                                                              Handlers handlers) {
  auto state = std::make_unique<State>();
  state->handlers = std::move(handlers);
  state->callbacks.begin_request = OnRequest;
  state->callbacks.log_message = OnLibraryMessage;
  const std::string threads = absl::StrCat(options.threads);
  const std::string header_bytes = absl::StrCat(options.header_bytes);
  const std::string timeout_ms = absl::StrCat(absl::ToInt64Milliseconds(options.request_timeout));
  const char* const settings[] = {"listening_ports",    address.c_str(),    "num_threads",
                                  threads.c_str(),      "max_request_size", header_bytes.c_str(),
                                  "request_timeout_ms", timeout_ms.c_str(), nullptr};
  state->context = mg_start(&state->callbacks, &state->handlers, const_cast<const char**>(settings));
  mg_server_port port = {};
  if (state->context == nullptr || mg_get_server_ports(state->context, 1, &port) != 1) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address));
  }
  state->host = address.substr(0, address.rfind(':'));
  state->port = port.port;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state)
    : state_(std::move(state)), address_(absl::StrCat(state_->host, ":", state_->port)) {}
HttpServer::~HttpServer() = default;

}  // namespace nibble::server
