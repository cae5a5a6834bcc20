#include "server/oip_wire.h"

#include <utility>
#include <variant>

#include "kvcache/base/status_macros.h"
#include "server/field_names.h"
#include "server/oip_bytes.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

constexpr FieldName kFieldNames[] = {
    {"sampling.", "sampling_parameters."}, {"stopping.stop_strings", "sampling_parameters.stop"},
    {"stopping.", "sampling_parameters."}, {"text:", "text_input:"},
    {"priority", "parameters.priority"},   {"model:", "model_name:"},
};

void AddOutput(const char* name, const char* datatype, std::string raw, inference::ModelInferResponse* response) {
  auto* output = response->add_outputs();
  output->set_name(name);
  output->set_datatype(datatype);
  output->add_shape(1);
  response->add_raw_output_contents(std::move(raw));
}

void AddText(const char* name, const std::string& text, inference::ModelInferResponse* response) {
  std::string raw;
  AppendLittleEndian(static_cast<uint32_t>(text.size()), &raw);
  AddOutput(name, "BYTES", raw + text, response);
}

void AddCount(const char* name, int64_t count, inference::ModelInferResponse* response) {
  std::string raw;
  AppendLittleEndian(static_cast<uint32_t>(count), &raw);
  AddOutput(name, "UINT32", std::move(raw), response);
}

}  // namespace

absl::StatusOr<AdmittedRequest> OipWire::Admit(const grpc::ByteBuffer& request, const Caller& caller) {
  inference::ModelInferRequest message;
  NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
  id_ = message.id();
  NIBBLE_ASSIGN_OR_RETURN(request_, ParseOipRequest(message));
  absl::StatusOr<AdmittedRequest> admitted = AdmitGenerate(request_.native, caller, *serving_.model, serving_.limits);
  if (!admitted.ok()) return InTermsOf(kFieldNames, admitted.status());
  if (call_ == Call::kInfer) request_.stream = false;
  text_ = std::move(request_.prefix);
  request_.native.Clear();  // no longer needed, and it may be large
  return admitted;
}

std::optional<grpc::ByteBuffer> OipWire::Encode(const StreamEvent& event) {
  if (const auto* chunk = std::get_if<ChunkEvent>(&event)) {
    text_ += chunk->text;
    if (!request_.stream || text_.empty()) return std::nullopt;
    return Respond(std::exchange(text_, ""), nullptr);
  }
  if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
    // How a request that was cut short ended, its status says.
    const bool whole =
        finished->reason == sched::FinishReason::kStop || finished->reason == sched::FinishReason::kLength;
    if (whole) return Respond(std::exchange(text_, ""), finished);
  }
  return std::nullopt;
}

grpc::ByteBuffer OipWire::Respond(const std::string& text, const FinishedEvent* finished) {
  inference::ModelStreamInferResponse streamed;
  inference::ModelInferResponse* response = streamed.mutable_infer_response();
  response->set_model_name(serving_.model->name);
  response->set_model_version("1");
  response->set_id(id_);
  if (request_.text_output) AddText("text_output", text, response);
  if (finished != nullptr) {
    if (request_.finish_reason) {
      AddText("finish_reason", finished->reason == sched::FinishReason::kStop ? "stop" : "length", response);
    }
    if (request_.num_input_tokens) AddCount("num_input_tokens", finished->usage.prompt_tokens, response);
    if (request_.num_output_tokens) AddCount("num_output_tokens", finished->usage.generated_tokens, response);
  }
  if (call_ == Call::kInfer) return SerializeMessage(*response);
  (*response->mutable_parameters())["triton_final_response"].set_bool_param(finished != nullptr);
  return SerializeMessage(streamed);
}

grpc::ByteBuffer OipWire::EncodeError(const std::string& message) const {
  inference::ModelStreamInferResponse streamed;
  streamed.set_error_message(message.empty() ? "failed" : message);
  inference::ModelInferResponse* response = streamed.mutable_infer_response();
  response->set_model_name(serving_.model->name);
  response->set_id(id_);
  (*response->mutable_parameters())["triton_final_response"].set_bool_param(true);
  return SerializeMessage(streamed);
}

}  // namespace nibble::server
