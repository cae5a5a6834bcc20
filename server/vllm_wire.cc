#include "server/vllm_wire.h"

#include <limits>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "server/field_names.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

namespace pb = vllm::grpc::engine;

constexpr uint32_t kMaxInt32 = std::numeric_limits<int32_t>::max();

absl::Status NotSupported(absl::string_view field) {
  return absl::UnimplementedError(absl::StrCat(field, ": not supported"));
}

absl::Status CheckSupported(const pb::GenerateRequest& request) {
  if (request.has_kv_transfer_params()) return NotSupported("kv_transfer_params");
  if (request.has_kv_transfer_params_json()) return NotSupported("kv_transfer_params_json");
  if (request.has_mm_inputs()) return NotSupported("mm_inputs");
  if (request.extra_mm_inputs_size() > 0) return NotSupported("extra_mm_inputs");
  if (request.has_media_refs()) return NotSupported("media_refs");
  if (request.data_parallel_rank() != 0) return absl::InvalidArgumentError("data_parallel_rank: the one rank is 0");
  return absl::OkStatus();
}

absl::Status CheckSupported(const pb::SamplingParams& sampling) {
  if (sampling.has_truncate_prompt_tokens()) return NotSupported("sampling_params.truncate_prompt_tokens");
  if (sampling.has_structural_tag()) return NotSupported("sampling_params.structural_tag");
  return absl::OkStatus();
}

// For fields that are int32 in the native message.
absl::Status CheckInt32(absl::string_view field, uint32_t value) {
  if (value <= kMaxInt32) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", value, " is out of range"));
}

template <typename Ids>
absl::Status CopyIds(absl::string_view field, const Ids& from, google::protobuf::RepeatedField<int32_t>* to) {
  to->Reserve(from.size());
  for (const uint32_t id : from) {
    NIBBLE_RETURN_IF_ERROR(CheckInt32(field, id));
    to->Add(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

absl::Status CopySampling(const pb::SamplingParams& from, v1::Sampling* to) {
  NIBBLE_RETURN_IF_ERROR(CheckInt32("sampling_params.top_k", from.top_k()));
  NIBBLE_RETURN_IF_ERROR(CheckInt32("sampling_params.n", from.n()));
  if (from.has_temperature()) to->set_temperature(from.temperature());
  // Zero is "not given" here: the contract has no other way to say it.
  if (from.top_p() != 0.0f) to->set_top_p(from.top_p());
  if (from.repetition_penalty() != 0.0f) to->set_repetition_penalty(from.repetition_penalty());
  if (from.top_k() != 0) to->set_top_k(static_cast<int32_t>(from.top_k()));
  if (from.min_p() != 0.0f) to->set_min_p(from.min_p());
  if (from.presence_penalty() != 0.0f) to->set_presence_penalty(from.presence_penalty());
  if (from.frequency_penalty() != 0.0f) to->set_frequency_penalty(from.frequency_penalty());
  if (from.n() != 0) to->set_n(static_cast<int32_t>(from.n()));
  if (from.has_seed()) to->set_seed(static_cast<uint64_t>(int64_t{from.seed()}));
  for (const auto& [id, bias] : from.logit_bias()) (*to->mutable_logit_bias())[id] = bias;
  return absl::OkStatus();
}

absl::Status CopyStopping(const pb::SamplingParams& from, v1::Stopping* to) {
  if (from.has_max_tokens()) to->set_max_tokens(from.max_tokens());
  if (from.min_tokens() != 0) to->set_min_tokens(from.min_tokens());
  *to->mutable_stop_strings() = from.stop();
  if (from.ignore_eos()) to->set_ignore_eos(true);
  return CopyIds("sampling_params.stop_token_ids", from.stop_token_ids(), to->mutable_stop_token_ids());
}

void CopyConstraint(const pb::SamplingParams& from, v1::GenerateRequest* to) {
  if (from.has_json_schema()) to->mutable_constraint()->set_json_schema(from.json_schema());
  if (from.json_object()) to->mutable_constraint()->set_json_schema(R"({"type": "object"})");
  if (from.has_regex()) to->mutable_constraint()->set_regex(from.regex());
  if (from.has_grammar()) to->mutable_constraint()->set_ebnf(from.grammar());
  if (from.has_choice()) *to->mutable_constraint()->mutable_choice()->mutable_texts() = from.choice().choices();
}

constexpr FieldName kFieldNames[] = {
    {"constraint.ebnf", "sampling_params.grammar"},
    {"constraint.", "sampling_params."},
    {"sampling.", "sampling_params."},
    {"stopping.stop_strings", "sampling_params.stop"},
    {"stopping.", "sampling_params."},
    {"token_ids", "tokenized.input_ids"},
    {"logprobs", "sampling_params.logprobs"},
    {"prompt_logprobs", "sampling_params.prompt_logprobs"},
    {"input: one of text, token_ids and chat", "input: one of text and tokenized"},
};

template <typename Message>
void AddTop(const engine::Logprobs& from, Message* to) {
  pb::TopLogProbs* top = to->add_top_logprobs();
  for (const engine::TokenLogprob& entry : from.top) {
    top->add_values(entry.logprob);
    top->add_token_ids(static_cast<uint32_t>(entry.id));
  }
}

// Appends the event's tokens to a chunk's or to a whole answer's lists.
void AddTokens(const ChunkEvent& event, google::protobuf::RepeatedField<uint32_t>* ids, pb::OutputLogProbs* logprobs) {
  for (const int32_t id : event.ids) ids->Add(static_cast<uint32_t>(id));
  for (size_t i = 0; i < event.logprobs.size(); ++i) {
    logprobs->add_token_logprobs(event.logprobs[i].logprob);
    logprobs->add_token_ids(static_cast<uint32_t>(event.ids[i]));
    AddTop(event.logprobs[i], logprobs);
  }
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> ToNative(const pb::GenerateRequest& from) {
  NIBBLE_RETURN_IF_ERROR(CheckSupported(from));
  const pb::SamplingParams& sampling = from.sampling_params();
  NIBBLE_RETURN_IF_ERROR(CheckSupported(sampling));
  v1::GenerateRequest to;
  to.set_request_id(from.request_id());
  if (from.has_text()) {
    to.set_text(from.text());
  } else if (from.has_tokenized()) {
    NIBBLE_RETURN_IF_ERROR(
        CopyIds("tokenized.input_ids", from.tokenized().input_ids(), to.mutable_token_ids()->mutable_ids()));
  }
  NIBBLE_RETURN_IF_ERROR(CopySampling(sampling, to.mutable_sampling()));
  NIBBLE_RETURN_IF_ERROR(CopyStopping(sampling, to.mutable_stopping()));
  CopyConstraint(sampling, &to);
  if (sampling.has_logprobs()) to.set_logprobs(sampling.logprobs());
  if (sampling.has_prompt_logprobs()) to.set_prompt_logprobs(sampling.prompt_logprobs());
  return to;
}

absl::StatusOr<AdmittedRequest> VllmWire::Admit(const grpc::ByteBuffer& request, const Caller& caller) {
  pb::GenerateRequest message;
  NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
  NIBBLE_ASSIGN_OR_RETURN(const v1::GenerateRequest native, ToNative(message));
  absl::StatusOr<AdmittedRequest> admitted = AdmitGenerate(native, caller, *serving_.model, serving_.limits);
  if (!admitted.ok()) return InTermsOf(kFieldNames, admitted.status());
  stream_ = message.stream();
  first_prompt_token_ = admitted->request.prompt.front();
  stop_token_ids_.insert(native.stopping().stop_token_ids().begin(), native.stopping().stop_token_ids().end());
  if (!stream_) whole_.resize(static_cast<size_t>(admitted->request.num_choices));
  return admitted;
}

std::optional<grpc::ByteBuffer> VllmWire::Encode(const StreamEvent& event) {
  Response response;
  if (!std::visit([&](const auto& e) { return Fill(e, &response); }, event)) return std::nullopt;
  return SerializeMessage(response);
}

bool VllmWire::Fill(const StartedEvent& event, Response*) {
  prompt_tokens_ = event.prompt_tokens;
  return false;
}

bool VllmWire::Fill(const PromptLogprobsEvent& event, Response*) {
  if (!prompt_logprobs_.has_value()) {
    prompt_logprobs_.emplace();
    prompt_logprobs_->add_token_logprobs();
    prompt_logprobs_->add_token_ids(static_cast<uint32_t>(first_prompt_token_));
    prompt_logprobs_->add_top_logprobs();
  }
  for (size_t i = 0; i < event.ids.size(); ++i) {
    prompt_logprobs_->add_token_logprobs()->set_value(event.logprobs[i].logprob);
    prompt_logprobs_->add_token_ids(static_cast<uint32_t>(event.ids[i]));
    AddTop(event.logprobs[i], &*prompt_logprobs_);
  }
  return false;
}

bool VllmWire::Fill(const ChunkEvent& event, Response* response) {
  if (event.ids.empty()) return false;  // text alone: the client makes its own of the ids
  if (!stream_) {
    pb::GenerateComplete& whole = whole_[static_cast<size_t>(event.index)];
    pb::OutputLogProbs* logprobs = event.logprobs.empty() ? nullptr : whole.mutable_output_logprobs();
    AddTokens(event, whole.mutable_output_ids(), logprobs);
    return false;
  }
  pb::GenerateStreamChunk* chunk = response->mutable_chunk();
  chunk->set_index(static_cast<uint32_t>(event.index));
  chunk->set_prompt_tokens(static_cast<uint32_t>(prompt_tokens_));
  chunk->set_completion_tokens(static_cast<uint32_t>(event.ids.size()));
  AddTokens(event, chunk->mutable_token_ids(), event.logprobs.empty() ? nullptr : chunk->mutable_output_logprobs());
  if (prompt_logprobs_.has_value()) *chunk->mutable_input_logprobs() = *std::exchange(prompt_logprobs_, std::nullopt);
  return true;
}

bool VllmWire::Fill(const FinishedEvent& event, Response* response) {
  // How a request that was cut short ended, its status says.
  if (event.reason != sched::FinishReason::kStop && event.reason != sched::FinishReason::kLength) return false;
  pb::GenerateComplete* complete = response->mutable_complete();
  if (!stream_) complete->Swap(&whole_[static_cast<size_t>(event.index)]);
  complete->set_index(static_cast<uint32_t>(event.index));
  complete->set_finish_reason(event.reason == sched::FinishReason::kStop ? "stop" : "length");
  complete->set_prompt_tokens(static_cast<uint32_t>(event.usage.prompt_tokens));
  complete->set_completion_tokens(static_cast<uint32_t>(event.usage.generated_tokens));
  complete->set_cached_tokens(static_cast<uint32_t>(event.usage.cached_tokens));
  if (!event.stop_string.empty()) complete->set_matched_stop_str(event.stop_string);
  if (stop_token_ids_.contains(event.stop_token_id)) {
    complete->set_matched_token_id(static_cast<uint32_t>(event.stop_token_id));
  }
  if (prompt_logprobs_.has_value()) {
    *complete->mutable_input_logprobs() = *std::exchange(prompt_logprobs_, std::nullopt);
  }
  return true;
}

}  // namespace nibble::server
