// inference.GRPCInferenceService: KServe's Open Inference Protocol v2 with Triton's ModelStreamInfer. Generation is the
// native one behind an OipWire; the rest is answered on gRPC's own threads.
#ifndef NIBBLE_SERVER_OIP_SERVICE_H_
#define NIBBLE_SERVER_OIP_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/serving.h"

namespace nibble::server {

class OipService {
 public:
  // `serving` must outlive the service.
  explicit OipService(Serving* serving);
  ~OipService();

  grpc::Service* service();
  // Streams take no more requests, and end when those on them have ended. Any thread.
  void BeginDrain();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OIP_SERVICE_H_
