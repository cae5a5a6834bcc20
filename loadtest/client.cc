#include "loadtest/client.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "loadtest/client_grpc.h"
#include "loadtest/client_http.h"
#include "loadtest/client_vllm.h"

namespace nibble::loadtest {
namespace {

using Make = std::unique_ptr<Client> (*)(const std::string& address, const std::string& model, int64_t concurrency,
                                         const Tls& tls);

struct Protocol {
  const char* scheme;
  Make make;
};

constexpr Protocol kProtocols[] = {
    {"grpc", MakeGrpcClient},
    {"vllm-grpc", MakeVllmClient},
    {"http", [](const std::string& address, const std::string& model, int64_t concurrency,
                const Tls&) { return MakeHttpClient(address, model, concurrency); }},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> MakeClient(const std::string& target, const std::string& model,
                                                   int64_t concurrency, const Tls& tls) {
  const size_t colon = target.find("://");
  if (colon != std::string::npos && colon + 3 < target.size()) {
    for (const Protocol& protocol : kProtocols) {
      if (target.substr(0, colon) == protocol.scheme)
        return protocol.make(target.substr(colon + 3), model, concurrency, tls);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--target: want grpc://ADDR, vllm-grpc://ADDR or http://ADDR, got '", target, "'"));
}

}  // namespace nibble::loadtest
