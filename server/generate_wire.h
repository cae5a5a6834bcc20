// One Generate call's protocol: how its request is proven and how its events are written. GenerateStream does the rest,
// alike for every protocol. Made for each call; its methods are called one at a time, Admit before Encode.
#ifndef NIBBLE_SERVER_GENERATE_WIRE_H_
#define NIBBLE_SERVER_GENERATE_WIRE_H_

#include <grpcpp/support/byte_buffer.h>

#include <optional>

#include "absl/status/statusor.h"
#include "server/caller.h"
#include "server/stream_event.h"
#include "server/translate.h"

namespace nibble::server {

class GenerateWire {
 public:
  virtual ~GenerateWire() = default;
  // May take as long as tokenizing takes: not for a gRPC thread.
  virtual absl::StatusOr<AdmittedRequest> Admit(const grpc::ByteBuffer& request, const Caller& caller) = 0;
  // nullopt: the protocol has nothing to send here.
  virtual std::optional<grpc::ByteBuffer> Encode(const StreamEvent& event) = 0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GENERATE_WIRE_H_
