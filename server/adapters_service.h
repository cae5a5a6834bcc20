// nibble.v1.Adapters: the operator's side of the adapter registry. Reading files runs on the thread that loads
// adapters.
#ifndef NIBBLE_SERVER_ADAPTERS_SERVICE_H_
#define NIBBLE_SERVER_ADAPTERS_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <memory>

#include "server/serving.h"

namespace nibble::server {

// `serving` must outlive the service. Without an adapter folder every method answers FAILED_PRECONDITION.
std::unique_ptr<grpc::Service> MakeAdaptersService(Serving* serving);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ADAPTERS_SERVICE_H_
