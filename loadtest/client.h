// Sends requests to one server, whatever its protocol.
#ifndef NIBBLE_LOADTEST_CLIENT_H_
#define NIBBLE_LOADTEST_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

// How a gRPC server is spoken to, as PEM.
struct Tls {
  std::string ca;                // that the server's certificate must lead to; empty: plaintext
  std::string certificate, key;  // the client's own, or both empty
};

struct ModelInfo {
  std::string name;
  int64_t vocab_size = 0;
};

class Client {
 public:
  // Waits for requests in flight.
  virtual ~Client() = default;

  // Blocks. The model that requests go to: the one asked for, or the server's own. `key`: that it is asked for with, or
  // empty.
  virtual absl::StatusOr<ModelInfo> Describe(const std::string& key) = 0;

  // CPUs that it can keep busy at a time.
  virtual int64_t threads() const = 0;

  // Sends one request and returns at once; any thread. `request` and `record` must live until `done`, which is called
  // once, on a thread of the client's, and must not block. Sets everything in the record but the request's
  // names and `scheduled`.
  virtual void Start(const Request& request, Record* record, std::function<void()> done) = 0;
};

// The client for "grpc://HOST:PORT" (nibble.v1), "vllm-grpc://HOST:PORT" (VllmEngine) or "http://HOST:PORT" (an
// OpenAI-compatible /v1/completions that takes token ids). `concurrency`: the most requests in flight at a time.
// INVALID_ARGUMENT for any other target.
absl::StatusOr<std::unique_ptr<Client>> MakeClient(const std::string& target, const std::string& model,
                                                   int64_t concurrency, const Tls& tls);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_CLIENT_H_
