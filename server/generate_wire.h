// One protocol's form of a generation: how its request is proven and how events are written. GenerateStream does the
// rest, alike for every protocol. Immutable; any thread.
#ifndef NIBBLE_SERVER_GENERATE_WIRE_H_
#define NIBBLE_SERVER_GENERATE_WIRE_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/statusor.h"
#include "server/stream_event.h"
#include "server/translate.h"

namespace nibble::server {

class GenerateWire {
 public:
  virtual ~GenerateWire() = default;
  // May take as long as tokenizing takes: not for a gRPC thread.
  virtual absl::StatusOr<AdmittedRequest> Admit(const grpc::ByteBuffer& request) const = 0;
  virtual grpc::ByteBuffer Encode(const StreamEvent& event) const = 0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GENERATE_WIRE_H_
