// vllm.grpc.engine.VllmEngine/Generate as a GenerateWire: the contract's request becomes the native message and takes
// its admission; events become chunks, or one GenerateComplete for each choice.
#ifndef NIBBLE_SERVER_VLLM_WIRE_H_
#define NIBBLE_SERVER_VLLM_WIRE_H_

#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "nibble/v1/inference.pb.h"
#include "server/generate_wire.h"
#include "server/serving.h"
#include "vllm/engine.pb.h"

namespace nibble::server {

// The request in native terms. UNIMPLEMENTED for what the contract has and Nibble has not, INVALID_ARGUMENT for what no
// native field can hold; both name the contract's field. Everything else is for admission to prove.
absl::StatusOr<v1::GenerateRequest> ToNative(const vllm::grpc::engine::GenerateRequest& from);

class VllmWire final : public GenerateWire {
 public:
  // `serving` must outlive the wire.
  explicit VllmWire(const Serving& serving) : serving_(serving) {}

  // Errors name the contract's fields.
  absl::StatusOr<AdmittedRequest> Admit(const grpc::ByteBuffer& request, const Caller& caller) override;
  std::optional<grpc::ByteBuffer> Encode(const StreamEvent& event) override;

 private:
  using Response = vllm::grpc::engine::GenerateResponse;

  // Each false: nothing to send.
  bool Fill(const StartedEvent& event, Response* response);
  bool Fill(const PromptLogprobsEvent& event, Response* response);
  bool Fill(const ChunkEvent& event, Response* response);
  bool Fill(const FinishedEvent& event, Response* response);

  const Serving& serving_;
  bool stream_ = false;
  int64_t prompt_tokens_ = 0;
  int32_t first_prompt_token_ = 0;  // has no logprob
  absl::flat_hash_set<int32_t> stop_token_ids_;
  // Without `stream`: what the choices have so far, by index.
  std::vector<vllm::grpc::engine::GenerateComplete> whole_;
  // Until the message that may carry them.
  std::optional<vllm::grpc::engine::InputLogProbs> prompt_logprobs_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_VLLM_WIRE_H_
