// One Open Inference Protocol request as a GenerateWire: text pieces become responses, or one whole response.
#ifndef NIBBLE_SERVER_OIP_WIRE_H_
#define NIBBLE_SERVER_OIP_WIRE_H_

#include <optional>
#include <string>

#include "server/generate_wire.h"
#include "server/oip_request.h"
#include "server/serving.h"

namespace nibble::server {

class OipWire final : public GenerateWire {
 public:
  enum class Call { kInfer, kStreamInfer };
  // `serving` must outlive the wire. kInfer: one ModelInferResponse whatever the request says of `stream`.
  OipWire(const Serving& serving, Call call) : serving_(serving), call_(call) {}

  // Errors name tensors and keys.
  absl::StatusOr<AdmittedRequest> Admit(const grpc::ByteBuffer& request, const Caller& caller) override;
  std::optional<grpc::ByteBuffer> Encode(const StreamEvent& event) override;

  // kStreamInfer: the request's last response, where it failed.
  grpc::ByteBuffer EncodeError(const std::string& message) const;

 private:
  grpc::ByteBuffer Respond(const std::string& text, const FinishedEvent* finished);

  const Serving& serving_;
  const Call call_;
  std::string id_;
  OipRequest request_;
  std::string text_;  // not sent yet
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OIP_WIRE_H_
