#include "scheduler/validate.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/page.h"

namespace nibble::sched {
namespace {

absl::Status Invalid(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Invalid(field, absl::StrCat(value, " is not in [", low, ", ", high, "]"));
}

// NaN is in no range.
absl::Status CheckFloat(absl::string_view field, float value, const Range& range) {
  if (value >= range.low && value <= range.high) return absl::OkStatus();
  return Invalid(field, absl::StrCat(value, " is not in [", range.low, ", ", range.high, "]"));
}

absl::Status CheckIds(absl::string_view field, absl::Span<const int32_t> ids, const Limits& limits) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= limits.vocab_size) {
      return Invalid(field, absl::StrCat("token id ", id, " is not in the vocabulary of ", limits.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const engine::SamplingParams& params, const Limits& limits) {
  NIBBLE_RETURN_IF_ERROR(CheckFloat("temperature", params.temperature, kTemperature));
  NIBBLE_RETURN_IF_ERROR(CheckFloat("top_p", params.top_p, kTopP));
  if (params.top_p == 0.0f) return Invalid("top_p", "must be above 0");
  NIBBLE_RETURN_IF_ERROR(CheckRange("top_k", params.top_k, 0, INT32_MAX));
  NIBBLE_RETURN_IF_ERROR(CheckFloat("min_p", params.min_p, kMinP));
  NIBBLE_RETURN_IF_ERROR(CheckFloat("repetition_penalty", params.repetition_penalty, kRepetitionPenalty));
  if (params.repetition_penalty == 0.0f) return Invalid("repetition_penalty", "must be above 0");
  NIBBLE_RETURN_IF_ERROR(CheckFloat("presence_penalty", params.presence_penalty, kPresencePenalty));
  NIBBLE_RETURN_IF_ERROR(CheckFloat("frequency_penalty", params.frequency_penalty, kFrequencyPenalty));
  NIBBLE_RETURN_IF_ERROR(CheckRange("logprobs", params.logprobs, -1, kMaxLogprobs));
  NIBBLE_RETURN_IF_ERROR(CheckRange("logit_bias", static_cast<int64_t>(params.logit_bias.size()), 0, kMaxLogitBias));
  for (const auto& [id, bias] : params.logit_bias) {
    NIBBLE_RETURN_IF_ERROR(CheckIds("logit_bias", {id}, limits));
    NIBBLE_RETURN_IF_ERROR(CheckFloat("logit_bias", bias, kLogitBias));
  }
  return absl::OkStatus();
}

absl::Status CheckStopping(const Stopping& stopping, const Limits& limits) {
  NIBBLE_RETURN_IF_ERROR(CheckRange("max_tokens", stopping.max_tokens, 1, limits.context_length));
  NIBBLE_RETURN_IF_ERROR(CheckRange("min_tokens", stopping.min_tokens, 0, stopping.max_tokens));
  NIBBLE_RETURN_IF_ERROR(
      CheckRange("stop_token_ids", static_cast<int64_t>(stopping.stop_token_ids.size()), 0, kMaxStopTokenIds));
  NIBBLE_RETURN_IF_ERROR(CheckIds("stop_token_ids", stopping.stop_token_ids, limits));
  return CheckIds("end_ids", stopping.end_ids, limits);
}

absl::Status CheckSize(const Request& request, const Limits& limits) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t tokens = prompt + int64_t{request.stopping.max_tokens};
  const std::string sum = absl::StrCat("a prompt of ", prompt, " and ", request.stopping.max_tokens, " new tokens ");
  if (tokens > limits.context_length) {
    return Invalid("max_tokens", absl::StrCat(sum, "exceed the context of ", limits.context_length));
  }
  if (kv::PagesFor(tokens) > limits.cache.num_pages) {
    return Invalid("max_tokens", absl::StrCat(sum, "need more than the KV cache holds: ", limits.cache.num_pages,
                                              " pages of ", kv::kPageTokens));
  }
  if (kv::PagesFor(tokens) > request.terms.max_pages) {
    return Invalid("max_tokens", absl::StrCat(sum, "need more than the tenant's share of the KV cache: ",
                                              request.terms.max_pages, " pages of ", kv::kPageTokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const Request& request, const Limits& limits) {
  if (request.prompt.empty()) return Invalid("prompt", "has no tokens");
  NIBBLE_RETURN_IF_ERROR(CheckRange("n", request.num_choices, 1, kMaxChoices));
  NIBBLE_RETURN_IF_ERROR(CheckStopping(request.stopping, limits));
  NIBBLE_RETURN_IF_ERROR(CheckSize(request, limits));
  NIBBLE_RETURN_IF_ERROR(CheckIds("prompt", request.prompt, limits));
  NIBBLE_RETURN_IF_ERROR(CheckSampling(request.sampling, limits));
  return CheckRange("prompt_logprobs", request.prompt_logprobs, -1, kMaxLogprobs);
}

}  // namespace nibble::sched
