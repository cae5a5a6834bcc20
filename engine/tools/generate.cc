#include "engine/tools/generate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::StatusOr<int64_t> CapacityFor(const OpenedModel& model, size_t prompt_tokens, int64_t max_tokens) {
  const int64_t prompt = static_cast<int64_t>(prompt_tokens), context = model.file.config.context_length;
  if (prompt == 0) return absl::InvalidArgumentError("the prompt is empty");
  if (prompt < context) return std::min(prompt + max_tokens, context);
  return absl::InvalidArgumentError(
      absl::StrCat("the prompt has ", prompt, " tokens; the model's context is ", context));
}

}  // namespace

absl::StatusOr<Generated> Generate(const OpenedModel& model, absl::Span<const int32_t> prompt,
                                   const GenerateOptions& options,
                                   const std::function<void(const std::string&)>& emit) {
  NIBBLE_ASSIGN_OR_RETURN(const int64_t capacity, CapacityFor(model, prompt.size(), options.max_tokens));
  NIBBLE_ASSIGN_OR_RETURN(const EngineOptions engine_options, OptionsFor(options.mode));
  NIBBLE_ASSIGN_OR_RETURN(const auto engine, EngineWithPages(engine_options, model, kv::PagesFor(capacity)));
  NIBBLE_ASSIGN_OR_RETURN(const auto adapter, AdapterFor(*engine, engine_options, model));
  SoloSequence sequence(*engine, capacity);
  sequence.set_adapter(adapter.get());
  IncrementalDecoder decoder(*model.tokenizer);
  Generated result;
  result.prompt_ids.assign(prompt.begin(), prompt.end());
  result.finish_reason = "length";
  const auto show = [&](const std::string& piece) {
    result.text += piece;
    emit(piece);
  };
  absl::Span<const int32_t> next = prompt;
  const int64_t most = capacity - static_cast<int64_t>(prompt.size());
  while (static_cast<int64_t>(result.ids.size()) < most) {
    const SampleRequest request = {&options.sampling, prompt, result.ids, {}, options.sampling.seed};
    const SequenceResult step = sequence.Append(next, &request);
    if (step.faulted) return absl::InternalError("a logit is not finite");
    if (model.tokenizer->IsEndOfGeneration(step.token)) {
      result.finish_reason = "stop";
      break;
    }
    result.ids.push_back(step.token);
    show(decoder.Push(step.token));
    next = absl::MakeConstSpan(result.ids).last(1);
  }
  show(decoder.Flush());
  return result;
}

}  // namespace nibble::engine
