// Between the wire's messages and native types: only translate.cc (requests) and translate_event.cc (answers) know
// both.
//
// AdmitGenerate is the admission of fields: it proves every field of a request, in the order of the message and before
// anything is queued or charged, and only then tokenizes and compiles the constraint. Any thread; time in O(n log n) of
// the prompt, and what compiling a grammar may take (engine/grammar/limits.h).
#ifndef NIBBLE_SERVER_TRANSLATE_H_
#define NIBBLE_SERVER_TRANSLATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nibble/v1/inference.pb.h"
#include "scheduler/request.h"
#include "server/caller.h"
#include "server/limits.h"
#include "server/served_model.h"
#include "server/stream_event.h"

namespace nibble::server {

// A request that is proven. Who has it adds what is neither the message's nor the client's: arrival and deadline.
struct AdmittedRequest {
  sched::Request request;
  std::vector<std::string> stop_strings;
  std::string adapter;                // by name; empty: the model alone
  AdapterLease adapter_lease;         // where the adapter is loaded already
  int64_t prompt_logprobs_bytes = 0;  // what the answer's prompt logprobs will occupy
};

// INVALID_ARGUMENT names the field; NOT_FOUND: model or adapter. An absent request id or seed is drawn at random.
absl::StatusOr<AdmittedRequest> AdmitGenerate(const v1::GenerateRequest& message, const Caller& caller,
                                              const ServedModel& model, const Limits& limits);

v1::GenerateResponse ToMessage(const StreamEvent& event);

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& message, const ServedModel& model,
                                              const Limits& limits);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& message, const ServedModel& model);
absl::StatusOr<v1::Model> GetModel(const v1::GetModelRequest& message, const ServedModel& model, bool draining);
v1::ListModelsResponse ListModels(const ServedModel& model, bool draining);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TRANSLATE_H_
