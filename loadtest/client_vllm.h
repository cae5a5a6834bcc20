// vllm.grpc.engine.VllmEngine as a Client: what gateways speak to a worker.
#ifndef NIBBLE_LOADTEST_CLIENT_VLLM_H_
#define NIBBLE_LOADTEST_CLIENT_VLLM_H_

#include <cstdint>
#include <memory>
#include <string>

#include "loadtest/client.h"

namespace nibble::loadtest {

// `address`: HOST:PORT. `model`: empty for the one that is served. The contract
// names no adapter: requests must have none.
std::unique_ptr<Client> MakeVllmClient(const std::string& address, const std::string& model, int64_t concurrency,
                                       const Tls& tls = {});

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_CLIENT_VLLM_H_
