// vllm.grpc.engine.VllmEngine: what the Shepherd Model Gateway (SMG) and llm-d speak to a worker. Generation is the
// native one behind a VllmWire; the rest is answered on gRPC's own threads, so that a gateway hears of a full server
// that it is full.
#ifndef NIBBLE_SERVER_VLLM_SERVICE_H_
#define NIBBLE_SERVER_VLLM_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/serving.h"

namespace nibble::server {

// `serving` must outlive the service.
std::unique_ptr<grpc::Service> MakeVllmService(Serving* serving);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_VLLM_SERVICE_H_
