// An Open Inference Protocol request with the tensors of Triton's vLLM backend, in native terms.
//
// Inputs (shape [1]): text_input BYTES, the prompt; stream BOOL; sampling_parameters BYTES, one JSON object with the
// names of vLLM's SamplingParams; exclude_input_in_output BOOL, whether the answer's text leaves the prompt out,
// without it as `stream` says; return_finish_reason, return_num_input_tokens, return_num_output_tokens BOOL, which ask
// for outputs of those names. Without sampling_parameters the request's own `parameters` are taken for them.
#ifndef NIBBLE_SERVER_OIP_REQUEST_H_
#define NIBBLE_SERVER_OIP_REQUEST_H_

#include <string>

#include "absl/status/statusor.h"
#include "kserve/inference.pb.h"
#include "nibble/v1/inference.pb.h"

namespace nibble::server {

struct OipRequest {
  v1::GenerateRequest native;
  bool stream = false;
  std::string prefix;  // what the answer's text begins with
  // Outputs.
  bool text_output = true, finish_reason = false, num_input_tokens = false, num_output_tokens = false;
};

// INVALID_ARGUMENT names the tensor or the key. Ranges of values are for admission to prove.
absl::StatusOr<OipRequest> ParseOipRequest(const inference::ModelInferRequest& message);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OIP_REQUEST_H_
