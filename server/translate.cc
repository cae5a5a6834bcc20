#include "server/translate.h"

#include <algorithm>
#include <random>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/page.h"
#include "scheduler/validate.h"
#include "server/request_names.h"

namespace nibble::server {
namespace {

template <typename... Words>
absl::Status Invalid(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

uint64_t RandomBits() {
  thread_local std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

// Written so that NaN fails.
absl::Status CheckRange(const char* field, float value, const sched::Range& range) {
  if (value >= range.low && value <= range.high) return absl::OkStatus();
  return Invalid(field, ": must be within [", range.low, ", ", range.high, "]");
}

absl::Status CheckCount(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) return Invalid(field, ": must be within [", low, ", ", high, "], is ", value);
  return absl::OkStatus();
}

absl::Status CheckTokenId(const char* field, int64_t id, int64_t vocab_size) {
  if (id < 0 || id >= vocab_size) return Invalid(field, ": token id ", id, " is not within [0, ", vocab_size, ")");
  return absl::OkStatus();
}

template <typename Ids>
absl::Status CheckTokenIds(const char* field, const Ids& ids, int64_t vocab_size) {
  for (const int32_t id : ids) NIBBLE_RETURN_IF_ERROR(CheckTokenId(field, id, vocab_size));
  return absl::OkStatus();
}

absl::Status CheckDistribution(const v1::Sampling& sampling) {
  if (sampling.has_temperature()) {
    NIBBLE_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), sched::kTemperature));
  }
  if (sampling.has_top_p()) {
    NIBBLE_RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p(), sched::kTopP));
    if (sampling.top_p() == 0.0f) return Invalid("sampling.top_p: must be above 0");
  }
  if (sampling.top_k() < 0) return Invalid("sampling.top_k: must not be negative");
  return CheckRange("sampling.min_p", sampling.min_p(), sched::kMinP);
}

absl::Status CheckPenalties(const v1::Sampling& sampling) {
  if (sampling.has_repetition_penalty()) {
    NIBBLE_RETURN_IF_ERROR(
        CheckRange("sampling.repetition_penalty", sampling.repetition_penalty(), sched::kRepetitionPenalty));
    if (sampling.repetition_penalty() == 0.0f) return Invalid("sampling.repetition_penalty: must be above 0");
  }
  NIBBLE_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", sampling.presence_penalty(), sched::kPresencePenalty));
  return CheckRange("sampling.frequency_penalty", sampling.frequency_penalty(), sched::kFrequencyPenalty);
}

absl::Status CheckSampling(const v1::Sampling& sampling, int64_t vocab_size, const Limits& limits) {
  NIBBLE_RETURN_IF_ERROR(CheckDistribution(sampling));
  NIBBLE_RETURN_IF_ERROR(CheckPenalties(sampling));
  if (static_cast<int64_t>(sampling.logit_bias_size()) > limits.logit_bias) {
    return Invalid("sampling.logit_bias: more than ", limits.logit_bias, " entries");
  }
  for (const auto& [id, bias] : sampling.logit_bias()) {
    NIBBLE_RETURN_IF_ERROR(CheckTokenId("sampling.logit_bias", id, vocab_size));
    NIBBLE_RETURN_IF_ERROR(CheckRange("sampling.logit_bias", bias, sched::kLogitBias));
  }
  return CheckCount("sampling.n", sampling.has_n() ? sampling.n() : 1, 1, limits.choices);
}

absl::Status CheckStopping(const v1::Stopping& stopping, int64_t vocab_size, int64_t context, const Limits& limits) {
  const int64_t max_tokens = stopping.has_max_tokens() ? stopping.max_tokens() : context;
  NIBBLE_RETURN_IF_ERROR(CheckCount("stopping.max_tokens", max_tokens, 1, context));
  NIBBLE_RETURN_IF_ERROR(CheckCount("stopping.min_tokens", stopping.min_tokens(), 0, max_tokens));
  if (stopping.stop_strings_size() > limits.stop_strings) {
    return Invalid("stopping.stop_strings: more than ", limits.stop_strings);
  }
  for (const std::string& stop : stopping.stop_strings()) {
    const int64_t size = static_cast<int64_t>(stop.size());
    if (size < 1 || size > limits.stop_string_bytes) {
      return Invalid("stopping.stop_strings: each must have 1 to ", limits.stop_string_bytes, " bytes");
    }
  }
  if (stopping.stop_token_ids_size() > limits.stop_token_ids) {
    return Invalid("stopping.stop_token_ids: more than ", limits.stop_token_ids);
  }
  return CheckTokenIds("stopping.stop_token_ids", stopping.stop_token_ids(), vocab_size);
}

absl::Status CheckChat(const v1::Chat& chat, const ServedModel& model, const Limits& limits) {
  if (!model.chat_template.ok()) return Invalid("chat: ", model.chat_template.status().message());
  NIBBLE_RETURN_IF_ERROR(CheckCount("chat.messages", chat.messages_size(), 1, limits.chat_messages));
  for (const v1::ChatMessage& message : chat.messages()) {
    if (message.role().empty()) return Invalid("chat.messages.role: empty");
  }
  return absl::OkStatus();
}

absl::Status CheckInput(const v1::GenerateRequest& message, const ServedModel& model, const Limits& limits) {
  switch (message.input_case()) {
    case v1::GenerateRequest::kText:
      return message.text().empty() ? Invalid("text: empty") : absl::OkStatus();
    case v1::GenerateRequest::kTokenIds:
      if (message.token_ids().ids().empty()) return Invalid("token_ids: empty");
      return CheckTokenIds("token_ids", message.token_ids().ids(), model.engine->vocab_size());
    case v1::GenerateRequest::kChat:
      return CheckChat(message.chat(), model, limits);
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return Invalid("input: one of text, token_ids and chat must be given");
}

absl::Status CheckFields(const v1::GenerateRequest& message, const Caller& caller, const ServedModel& model,
                         const Limits& limits, AdmittedRequest* admitted) {
  const int64_t vocab_size = model.engine->vocab_size();
  if (static_cast<int64_t>(message.request_id().size()) > limits.request_id_bytes) {
    return Invalid("request_id: longer than ", limits.request_id_bytes, " bytes");
  }
  NIBBLE_RETURN_IF_ERROR(FindNames(message.model(), message.adapter(), caller, model, admitted));
  NIBBLE_RETURN_IF_ERROR(CheckInput(message, model, limits));
  NIBBLE_RETURN_IF_ERROR(CheckSampling(message.sampling(), vocab_size, limits));
  NIBBLE_RETURN_IF_ERROR(CheckStopping(message.stopping(), vocab_size, model.engine->context_length(), limits));
  NIBBLE_RETURN_IF_ERROR(CheckCount("priority", message.priority(), -limits.priority, limits.priority));
  NIBBLE_RETURN_IF_ERROR(CheckCount("logprobs", message.logprobs(), 0, limits.logprobs));
  return CheckCount("prompt_logprobs", message.prompt_logprobs(), 0, limits.logprobs);
}

// The field that holds the input, for messages.
const char* InputField(const v1::GenerateRequest& message) {
  if (message.has_chat()) return "chat";
  return message.has_text() ? "text" : "token_ids";
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(const v1::Chat& chat, const ServedModel& model) {
  std::vector<engine::ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) messages.push_back({message.role(), message.content()});
  const auto segments = (*model.chat_template)->Render(messages, /*add_generation_prompt=*/true);
  if (!segments.ok()) return Invalid("chat: ", segments.status().message());
  return engine::EncodeSegments(*model.tokenizer, *segments);
}

absl::StatusOr<std::shared_ptr<const engine::grammar::Grammar>> CompileGrammar(const v1::Constraint& from,
                                                                               const ServedModel& model) {
  using engine::grammar::Notation;
  engine::grammar::Constraint constraint;
  const char* field = nullptr;
  switch (from.kind_case()) {
    case v1::Constraint::kJsonSchema:
      field = "constraint.json_schema";
      constraint = {Notation::kJsonSchema, from.json_schema(), {}};
      break;
    case v1::Constraint::kRegex:
      field = "constraint.regex";
      constraint = {Notation::kRegex, from.regex(), {}};
      break;
    case v1::Constraint::kChoice:
      field = "constraint.choice";
      constraint = {Notation::kChoice, "", {from.choice().texts().begin(), from.choice().texts().end()}};
      break;
    case v1::Constraint::kEbnf:
      field = "constraint.ebnf";
      constraint = {Notation::kEbnf, from.ebnf(), {}};
      break;
    case v1::Constraint::KIND_NOT_SET:
      return Invalid("constraint: one of json_schema, regex, choice and ebnf must be given");
  }
  auto grammar = model.grammars->Compile(constraint);
  if (!grammar.ok()) return Invalid(field, ": ", grammar.status().message());
  return grammar;
}

absl::StatusOr<std::vector<int32_t>> EncodeInput(const v1::GenerateRequest& message, const ServedModel& model) {
  switch (message.input_case()) {
    case v1::GenerateRequest::kText:
      return model.tokenizer->Encode(message.text(), engine::EncodeOptions());
    case v1::GenerateRequest::kChat:
      return EncodeChat(message.chat(), model);
    default:
      return std::vector<int32_t>(message.token_ids().ids().begin(), message.token_ids().ids().end());
  }
}

engine::SamplingParams ToSamplingParams(const v1::GenerateRequest& message) {
  const v1::Sampling& from = message.sampling();
  engine::SamplingParams to;
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  to.top_k = from.top_k();
  to.min_p = from.min_p();
  to.presence_penalty = from.presence_penalty();
  to.frequency_penalty = from.frequency_penalty();
  to.logit_bias.assign(from.logit_bias().begin(), from.logit_bias().end());
  std::sort(to.logit_bias.begin(), to.logit_bias.end());
  to.seed = from.has_seed() ? from.seed() : RandomBits();
  to.logprobs = message.has_logprobs() ? message.logprobs() : -1;
  return to;
}

sched::Stopping ToStopping(const v1::Stopping& from, const engine::Tokenizer& tokenizer) {
  sched::Stopping to;
  to.min_tokens = static_cast<int32_t>(from.min_tokens());
  to.stop_token_ids.assign(from.stop_token_ids().begin(), from.stop_token_ids().end());
  if (!from.ignore_eos()) {
    const absl::Span<const int32_t> ends = tokenizer.end_of_generation_ids();
    to.end_ids.assign(ends.begin(), ends.end());
  }
  return to;
}

absl::Status CheckPromptLength(const char* field, int64_t tokens, int64_t context) {
  if (tokens == 0) return Invalid(field, ": has no tokens");
  if (tokens >= context) return Invalid(field, ": ", tokens, " tokens leave no room in the context of ", context);
  return absl::OkStatus();
}

// Tokens that each choice may generate where the client did not say: what the context and `pages` of KV leave, at least
// one.
int64_t RoomFor(int64_t prompt, int64_t choices, int64_t pages, const engine::Engine& engine) {
  const int64_t pages_left = pages - kv::PagesFor(prompt);
  const int64_t room = std::min(engine.context_length() - prompt, (pages_left / choices - 1) * kv::kPageTokens);
  return std::max<int64_t>(room, 1);
}

absl::StatusOr<int32_t> MaxTokens(const v1::Stopping& stopping, int64_t prompt, int64_t choices, const Caller& caller,
                                  const engine::Engine& engine) {
  const int64_t pages = std::min(engine.cache_shape().num_pages, caller.terms.max_pages);
  const int64_t context = engine.context_length();
  const int64_t max_tokens =
      stopping.has_max_tokens() ? stopping.max_tokens() : RoomFor(prompt, choices, pages, engine);
  if (max_tokens > context - prompt) {
    return Invalid("stopping.max_tokens: ", max_tokens, " after a prompt of ", prompt,
                   " tokens exceeds the context of ", context);
  }
  if (stopping.min_tokens() > max_tokens) {
    return Invalid("stopping.min_tokens: after a prompt of ", prompt, " tokens there is room for ", max_tokens);
  }
  return static_cast<int32_t>(max_tokens);
}

// On the wire and in memory alike, about.
int64_t PromptLogprobsBytes(int64_t prompt_tokens, int64_t top) {
  return prompt_tokens * static_cast<int64_t>(sizeof(engine::Logprobs) + top * sizeof(engine::TokenLogprob));
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t valid = engine::ValidPrefixLength(bytes);
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    text.append(engine::kReplacementCharacter);
    bytes.remove_prefix(1);
  }
  return text;
}

v1::Model Describe(const ServedModel& model, bool draining) {
  v1::Model message;
  message.set_name(model.name);
  message.set_architecture(model.architecture);
  message.set_context_length(model.engine->context_length());
  message.set_vocab_size(model.engine->vocab_size());
  message.set_kv_codec(model.kv_codec);
  message.set_chat(model.chat_template.ok());
  for (const int32_t id : model.tokenizer->end_of_generation_ids()) message.add_end_token_ids(id);
  message.set_state(draining ? v1::MODEL_STATE_DRAINING : v1::MODEL_STATE_READY);
  return message;
}

}  // namespace

absl::StatusOr<AdmittedRequest> AdmitGenerate(const v1::GenerateRequest& message, const Caller& caller,
                                              const ServedModel& model, const Limits& limits) {
  AdmittedRequest admitted;
  NIBBLE_RETURN_IF_ERROR(CheckFields(message, caller, model, limits, &admitted));
  sched::Request& request = admitted.request;
  request.tenant = caller.tenant;
  request.terms = caller.terms;
  NIBBLE_ASSIGN_OR_RETURN(request.prompt, EncodeInput(message, model));
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  NIBBLE_RETURN_IF_ERROR(CheckPromptLength(InputField(message), prompt_tokens, model.engine->context_length()));
  request.num_choices = message.sampling().has_n() ? message.sampling().n() : 1;
  request.stopping = ToStopping(message.stopping(), *model.tokenizer);
  NIBBLE_ASSIGN_OR_RETURN(request.stopping.max_tokens,
                          MaxTokens(message.stopping(), prompt_tokens, request.num_choices, caller, *model.engine));
  request.id = message.request_id().empty() ? absl::StrFormat("%016x", RandomBits()) : message.request_id();
  request.sampling = ToSamplingParams(message);
  request.priority = message.priority();
  if (message.has_prompt_logprobs()) {
    request.prompt_logprobs = message.prompt_logprobs();
    admitted.prompt_logprobs_bytes = PromptLogprobsBytes(prompt_tokens, message.prompt_logprobs());
  }
  if (message.has_constraint()) {
    NIBBLE_ASSIGN_OR_RETURN(request.grammar, CompileGrammar(message.constraint(), model));
  }
  admitted.stop_strings.assign(message.stopping().stop_strings().begin(), message.stopping().stop_strings().end());
  return admitted;
}

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& message, const ServedModel& model,
                                              const Limits& limits) {
  NIBBLE_RETURN_IF_ERROR(CheckModelName("model", message.model(), model));
  std::vector<int32_t> ids;
  if (message.has_chat()) {
    NIBBLE_RETURN_IF_ERROR(CheckChat(message.chat(), model, limits));
    NIBBLE_ASSIGN_OR_RETURN(ids, EncodeChat(message.chat(), model));
  } else {
    engine::EncodeOptions options;
    if (message.has_add_special()) options.add_special = message.add_special();
    ids = model.tokenizer->Encode(message.text(), options);
  }
  v1::TokenizeResponse response;
  response.mutable_ids()->Add(ids.begin(), ids.end());
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& message, const ServedModel& model) {
  NIBBLE_RETURN_IF_ERROR(CheckModelName("model", message.model(), model));
  NIBBLE_RETURN_IF_ERROR(CheckTokenIds("ids", message.ids(), model.engine->vocab_size()));
  v1::DetokenizeResponse response;
  response.set_text(ReplaceInvalidUtf8(model.tokenizer->Decode(message.ids(), message.special())));
  return response;
}

absl::StatusOr<v1::Model> GetModel(const v1::GetModelRequest& message, const ServedModel& model, bool draining) {
  NIBBLE_RETURN_IF_ERROR(CheckModelName("name", message.name(), model));
  return Describe(model, draining);
}

v1::ListModelsResponse ListModels(const ServedModel& model, bool draining) {
  v1::ListModelsResponse response;
  *response.add_models() = Describe(model, draining);
  return response;
}

}  // namespace nibble::server
