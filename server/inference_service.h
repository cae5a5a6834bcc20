// nibble.v1.Inference on gRPC's callback API: one reactor per call. Nothing here waits: what takes long (tokenizing)
// runs on the intake threads.
#ifndef NIBBLE_SERVER_INFERENCE_SERVICE_H_
#define NIBBLE_SERVER_INFERENCE_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/serving.h"

namespace nibble::server {

// `serving` must outlive the service.
std::unique_ptr<grpc::Service> MakeInferenceService(Serving* serving);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_INFERENCE_SERVICE_H_
