#include "server/oip_request.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/oip_bytes.h"

namespace nibble::server {
namespace {

using Json = nlohmann::json;

constexpr char kSampling[] = "sampling_parameters";

template <typename... Words>
absl::Status Invalid(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat(words...));
}

// Inputs that say yes or no.
struct Switches {
  std::optional<bool> stream, exclude_input_in_output;
  bool finish_reason = false, num_input_tokens = false, num_output_tokens = false;
};

absl::StatusOr<bool> BoolOf(const inference::ModelInferRequest& message, int index) {
  const auto& input = message.inputs(index);
  if (input.datatype() != "BOOL") return Invalid(input.name(), ": must be BOOL");
  if (message.raw_input_contents().empty()) {
    if (input.contents().bool_contents_size() == 1) return input.contents().bool_contents(0);
  } else if (message.raw_input_contents(index).size() == 1) {
    return message.raw_input_contents(index)[0] != 0;
  }
  return Invalid(input.name(), ": must have one element");
}

absl::StatusOr<std::string> BytesOf(const inference::ModelInferRequest& message, int index) {
  const auto& input = message.inputs(index);
  if (input.datatype() != "BYTES") return Invalid(input.name(), ": must be BYTES");
  if (message.raw_input_contents().empty()) {
    if (input.contents().bytes_contents_size() == 1) return input.contents().bytes_contents(0);
    return Invalid(input.name(), ": must have one element");
  }
  const std::string& raw = message.raw_input_contents(index);
  if (raw.size() < kOipLengthBytes || LoadLittleEndian(raw.data()) != raw.size() - kOipLengthBytes) {
    return Invalid(input.name(), ": must be one element, its length in front");
  }
  return raw.substr(kOipLengthBytes);
}

absl::Status ReadInput(const inference::ModelInferRequest& message, int index, Switches* switches,
                       std::optional<std::string>* text, std::optional<std::string>* sampling) {
  const std::string& name = message.inputs(index).name();
  if (name == "text_input") {
    NIBBLE_ASSIGN_OR_RETURN(*text, BytesOf(message, index));
    return absl::OkStatus();
  }
  if (name == kSampling) {
    NIBBLE_ASSIGN_OR_RETURN(*sampling, BytesOf(message, index));
    return absl::OkStatus();
  }
  NIBBLE_ASSIGN_OR_RETURN(const bool value, BoolOf(message, index));
  if (name == "stream") {
    switches->stream = value;
  } else if (name == "exclude_input_in_output") {
    switches->exclude_input_in_output = value;
  } else if (name == "return_finish_reason") {
    switches->finish_reason = value;
  } else if (name == "return_num_input_tokens") {
    switches->num_input_tokens = value;
  } else if (name == "return_num_output_tokens") {
    switches->num_output_tokens = value;
  } else {
    return Invalid("inputs: no tensor is named '", name, "'");
  }
  return absl::OkStatus();
}

// The request's parameters as the JSON object that sampling_parameters would be. Names that Triton gives a meaning of
// its own are no sampling parameters.
absl::StatusOr<Json> FromParameters(const inference::ModelInferRequest& message) {
  Json sampling = Json::object();
  for (const auto& [name, value] : message.parameters()) {
    if (name == "priority" || name == "timeout" || name == "triton_enable_empty_final_response") continue;
    switch (value.parameter_choice_case()) {
      case inference::InferParameter::kBoolParam:
        sampling[name] = value.bool_param();
        break;
      case inference::InferParameter::kInt64Param:
        sampling[name] = value.int64_param();
        break;
      case inference::InferParameter::kUint64Param:
        sampling[name] = value.uint64_param();
        break;
      case inference::InferParameter::kDoubleParam:
        sampling[name] = value.double_param();
        break;
      case inference::InferParameter::kStringParam:
        sampling[name] = value.string_param();
        break;
      case inference::InferParameter::PARAMETER_CHOICE_NOT_SET:
        return Invalid("parameters.", name, ": has no value");
    }
  }
  return sampling;
}

absl::StatusOr<Json> FromTensor(const std::string& text) {
  Json sampling = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!sampling.is_object()) return Invalid(kSampling, ": is no JSON object");
  return sampling;
}

// One member of the object, as the type that the native field has.
class Member {
 public:
  Member(const std::string& name, const Json& value) : name_(name), value_(value) {}

  absl::StatusOr<float> Float() const {
    if (!value_.is_number()) return Invalid(kSampling, ".", name_, ": must be a number");
    return value_.get<float>();
  }
  absl::StatusOr<int64_t> Int64() const { return Int64Of(value_); }
  absl::StatusOr<int32_t> Int32() const { return Int32Of(value_); }
  absl::StatusOr<bool> Bool() const {
    if (!value_.is_boolean()) return Invalid(kSampling, ".", name_, ": must be true or false");
    return value_.get<bool>();
  }
  // One or a list of them. Nothing is copied: a value may be nested as deep as a message is long, and a copy recurses.
  absl::Status AddStrings(google::protobuf::RepeatedPtrField<std::string>* to) const {
    const auto add = [this, to](const Json& element) {
      if (!element.is_string()) return Invalid(kSampling, ".", name_, ": must be a string or a list of strings");
      *to->Add() = element.get<std::string>();
      return absl::OkStatus();
    };
    if (!value_.is_array()) return add(value_);
    for (const Json& element : value_) NIBBLE_RETURN_IF_ERROR(add(element));
    return absl::OkStatus();
  }
  absl::Status AddIds(google::protobuf::RepeatedField<int32_t>* to) const {
    if (!value_.is_array()) return Invalid(kSampling, ".", name_, ": must be a list of token ids");
    for (const Json& element : value_) {
      NIBBLE_ASSIGN_OR_RETURN(const int32_t id, Int32Of(element));
      to->Add(id);
    }
    return absl::OkStatus();
  }
  absl::Status AddBiases(google::protobuf::Map<int32_t, float>* to) const {
    if (!value_.is_object()) return Invalid(kSampling, ".", name_, ": must be an object of token ids");
    for (const auto& [key, bias] : value_.items()) {
      int32_t id = 0;
      if (!absl::SimpleAtoi(key, &id) || !bias.is_number()) {
        return Invalid(kSampling, ".", name_, ": must be an object of token ids and numbers");
      }
      (*to)[id] = bias.get<float>();
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<int64_t> Int64Of(const Json& value) const {
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() ||
                       value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits) return Invalid(kSampling, ".", name_, ": must be an integer");
    return value.get<int64_t>();
  }
  absl::StatusOr<int32_t> Int32Of(const Json& value) const {
    NIBBLE_ASSIGN_OR_RETURN(const int64_t wide, Int64Of(value));
    if (wide != static_cast<int32_t>(wide)) return Invalid(kSampling, ".", name_, ": ", wide, " is out of range");
    return static_cast<int32_t>(wide);
  }

  const std::string& name_;
  const Json& value_;
};

template <typename Message, typename Value>
absl::Status Set(Message* message, void (Message::*set)(Value), absl::StatusOr<Value> value) {
  if (value.ok()) (message->*set)(*value);
  return value.status();
}

absl::Status SetSampling(const std::string& name, const Member& member, v1::GenerateRequest* native) {
  using S = v1::Sampling;
  using T = v1::Stopping;
  S* sampling = native->mutable_sampling();
  T* stopping = native->mutable_stopping();
  if (name == "temperature") return Set(sampling, &S::set_temperature, member.Float());
  if (name == "top_p") return Set(sampling, &S::set_top_p, member.Float());
  if (name == "min_p") return Set(sampling, &S::set_min_p, member.Float());
  if (name == "repetition_penalty") return Set(sampling, &S::set_repetition_penalty, member.Float());
  if (name == "presence_penalty") return Set(sampling, &S::set_presence_penalty, member.Float());
  if (name == "frequency_penalty") return Set(sampling, &S::set_frequency_penalty, member.Float());
  if (name == "ignore_eos") return Set(stopping, &T::set_ignore_eos, member.Bool());
  if (name == "max_tokens") return Set(stopping, &T::set_max_tokens, member.Int64());
  if (name == "min_tokens") return Set(stopping, &T::set_min_tokens, member.Int64());
  if (name == "stop") return member.AddStrings(stopping->mutable_stop_strings());
  if (name == "stop_token_ids") return member.AddIds(stopping->mutable_stop_token_ids());
  if (name == "logit_bias") return member.AddBiases(sampling->mutable_logit_bias());
  if (name == "seed") {
    NIBBLE_ASSIGN_OR_RETURN(const int64_t seed, member.Int64());
    sampling->set_seed(static_cast<uint64_t>(seed));
    return absl::OkStatus();
  }
  if (name == "top_k") {
    NIBBLE_ASSIGN_OR_RETURN(const int32_t top_k, member.Int32());
    if (top_k != -1) sampling->set_top_k(top_k);  // vLLM's word for "all"
    return absl::OkStatus();
  }
  if (name == "n") {
    NIBBLE_ASSIGN_OR_RETURN(const int32_t n, member.Int32());
    return n == 1 ? absl::OkStatus() : Invalid(kSampling, ".n: must be 1");
  }
  return Invalid(kSampling, ": no parameter is named '", name, "'");
}

absl::Status SetPriority(const inference::ModelInferRequest& message, v1::GenerateRequest* native) {
  const auto priority = message.parameters().find("priority");
  if (priority == message.parameters().end()) return absl::OkStatus();
  const uint64_t value = priority->second.uint64_param();
  if (value > std::numeric_limits<int32_t>::max()) return Invalid("parameters.priority: ", value, " is out of range");
  native->set_priority(static_cast<int32_t>(value));
  return absl::OkStatus();
}

absl::Status CheckOutputs(const inference::ModelInferRequest& message, OipRequest* request) {
  if (message.outputs().empty()) return absl::OkStatus();
  request->text_output = request->finish_reason = false;
  request->num_input_tokens = request->num_output_tokens = false;
  for (const auto& output : message.outputs()) {
    if (output.name() == "text_output") {
      request->text_output = true;
    } else if (output.name() == "finish_reason") {
      request->finish_reason = true;
    } else if (output.name() == "num_input_tokens") {
      request->num_input_tokens = true;
    } else if (output.name() == "num_output_tokens") {
      request->num_output_tokens = true;
    } else {
      return Invalid("outputs: no tensor is named '", output.name(), "'");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OipRequest> ParseOipRequest(const inference::ModelInferRequest& message) {
  const int raw = message.raw_input_contents_size();
  if (raw != 0 && raw != message.inputs_size()) return Invalid("raw_input_contents: must be as many as inputs");
  Switches switches;
  std::optional<std::string> text, sampling_text;
  for (int i = 0; i < message.inputs_size(); ++i) {
    NIBBLE_RETURN_IF_ERROR(ReadInput(message, i, &switches, &text, &sampling_text));
  }
  if (!text.has_value()) return Invalid("text_input: must be given");
  NIBBLE_ASSIGN_OR_RETURN(const Json sampling,
                          sampling_text.has_value() ? FromTensor(*sampling_text) : FromParameters(message));
  OipRequest request;
  request.native.set_model(message.model_name());
  for (const auto& [name, value] : sampling.items()) {
    if (value.is_null()) continue;
    NIBBLE_RETURN_IF_ERROR(SetSampling(name, Member(name, value), &request.native));
  }
  NIBBLE_RETURN_IF_ERROR(SetPriority(message, &request.native));
  request.stream = switches.stream.value_or(false);
  if (!switches.exclude_input_in_output.value_or(request.stream)) request.prefix = *text;
  request.native.set_text(*std::move(text));
  request.finish_reason = switches.finish_reason;
  request.num_input_tokens = switches.num_input_tokens;
  request.num_output_tokens = switches.num_output_tokens;
  NIBBLE_RETURN_IF_ERROR(CheckOutputs(message, &request));
  return request;
}

}  // namespace nibble::server
