// nibble.v1.Inference as a Client, over gRPC's callback API.
#ifndef NIBBLE_LOADTEST_CLIENT_GRPC_H_
#define NIBBLE_LOADTEST_CLIENT_GRPC_H_

#include <cstdint>
#include <memory>
#include <string>

#include "loadtest/client.h"

namespace nibble::loadtest {

// `address`: HOST:PORT. `model`: empty for the one that is served.
std::unique_ptr<Client> MakeGrpcClient(const std::string& address, const std::string& model, int64_t concurrency,
                                       const Tls& tls = {});

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_CLIENT_GRPC_H_
