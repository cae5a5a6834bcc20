#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tools/files.h"
#include "engine/tools/generate.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::StatusOr<GenerateOptions> GenerateOptionsFromFlags() {
  GenerateOptions options;
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<RunMode> modes, RunModesFromFlags());
  if (modes.size() != 1)
    return absl::InvalidArgumentError("--weights, --activations and --kv take one value each here");
  options.mode = modes[0];
  options.max_tokens = absl::GetFlag(FLAGS_max_tokens);
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("max-tokens", options.max_tokens, 1));
  options.sampling.temperature = absl::GetFlag(FLAGS_temperature).value_or(0.0f);
  if (!(options.sampling.temperature >= 0.0f && options.sampling.temperature <= 100.0f)) {
    return absl::InvalidArgumentError("--temperature: must be 0 to 100");
  }
  options.sampling.seed = absl::GetFlag(FLAGS_seed).value_or(0);
  return options;
}

absl::StatusOr<std::string> PromptFromFlags() {
  const std::string prompt = absl::GetFlag(FLAGS_prompt), path = absl::GetFlag(FLAGS_prompt_file);
  if (prompt.empty() == path.empty()) return absl::InvalidArgumentError("one of --prompt and --prompt-file is needed");
  if (!path.empty()) return ReadWholeFile(path);
  return prompt;
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const OpenedModel& model, const std::string& prompt, bool chat) {
  if (!chat) return model.tokenizer->Encode(prompt, {});
  const absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template = ChatTemplate::Compile(model.tokenizer->data());
  if (absl::IsNotFound(chat_template.status())) {
    return absl::InvalidArgumentError("--chat: the model has no chat template");
  }
  NIBBLE_RETURN_IF_ERROR(chat_template.status());
  const ChatMessage message = {"user", prompt};
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<Segment> segments,
                          (*chat_template)->Render(absl::MakeConstSpan(&message, 1), true));
  return EncodeSegments(*model.tokenizer, segments);
}

std::string GeneratedJson(const std::string& model_path, const Generated& generated) {
  const nlohmann::ordered_json json = {{"model", model_path},
                                       {"text", generated.text},
                                       {"ids", generated.ids},
                                       {"prompt_ids", generated.prompt_ids},
                                       {"finish_reason", generated.finish_reason}};
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

absl::Status RunGenerate(const std::vector<std::string>& /*positionals*/) {
  NIBBLE_RETURN_IF_ERROR(RequireText("model", absl::GetFlag(FLAGS_model)));
  NIBBLE_ASSIGN_OR_RETURN(const GenerateOptions options, GenerateOptionsFromFlags());
  const std::string json_path = absl::GetFlag(FLAGS_json);
  NIBBLE_RETURN_IF_ERROR(CheckWritable(json_path));
  NIBBLE_ASSIGN_OR_RETURN(const std::string prompt, PromptFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModelFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, PromptIds(model, prompt, absl::GetFlag(FLAGS_chat)));
  const bool stream = json_path != "-";
  const auto emit = [stream](const std::string& piece) {
    if (!stream) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  NIBBLE_ASSIGN_OR_RETURN(const Generated generated, Generate(model, ids, options, emit));
  if (stream) std::fputc('\n', stdout);
  return json_path.empty() ? absl::OkStatus() : WriteWholeFile(json_path, GeneratedJson(model.path, generated));
}

}  // namespace nibble::engine
