#include <cstdio>
#include <optional>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/quant/gptq.h"
#include "engine/quant/smoothing.h"
#include "engine/tools/files.h"
#include "engine/tools/quantize.h"
#include "engine/tools/terminal.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/mapped_file.h"
#include "engine/weights/quantized_file.h"
#include "engine/weights/sha256.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int32_t kDefaultChunks = 8;

// The one value of a flag that is a list elsewhere.
absl::StatusOr<std::string> OneOf(const char* flag, const std::vector<std::string>& values, const char* a,
                                  const char* b) {
  if (values.size() == 1 && (values[0] == a || values[0] == b)) return values[0];
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", a, " or ", b));
}

absl::StatusOr<QuantizeOptions> QuantizeOptionsFromFlags() {
  QuantizeOptions options;
  NIBBLE_ASSIGN_OR_RETURN(const std::string weights, OneOf("weights", absl::GetFlag(FLAGS_weights), "w8", "w4"));
  NIBBLE_ASSIGN_OR_RETURN(const std::string activations,
                          OneOf("activations", absl::GetFlag(FLAGS_activations), "a8", "a4"));
  NIBBLE_ASSIGN_OR_RETURN(options.weights, ParseWeightMode(weights));
  NIBBLE_ASSIGN_OR_RETURN(options.activations, ParseActivationMode(activations));
  options.chunks.context = absl::GetFlag(FLAGS_context);
  options.chunks.most = absl::GetFlag(FLAGS_chunks).value_or(kDefaultChunks);
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("context", options.chunks.context, 1));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", options.chunks.most, 1));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("threads", absl::GetFlag(FLAGS_threads), 0));
  return options;
}

// Every choice that made the file.
SafetensorsMetadata ChoicesOf(const OpenedModel& model, const std::optional<std::string>& text,
                              const QuantizeOptions& options, int64_t tokens) {
  SafetensorsMetadata choices = {{"weights", absl::GetFlag(FLAGS_weights)[0]},
                                 {"activations", absl::GetFlag(FLAGS_activations)[0]},
                                 {"group_size", "32"},
                                 {"rounding", "nearest; codes that fit are kept"},
                                 {"model_sha256", ModelSha256(*model.file.weights)}};
  if (!text.has_value()) return choices;
  choices["calibration_text_sha256"] = Sha256Hex(*text);
  choices["calibration_tokens"] = absl::StrCat(tokens);
  choices["calibration_context"] = absl::StrCat(options.chunks.context);
  choices["rounding"] = Smooths(options) ? "gptq; embedding: nearest; codes of the others that fit are kept"
                                         : "gptq; embedding and head: nearest; codes that fit are kept";
  choices["gptq_damping"] = absl::StrCat(kGptqDamping);
  if (Smooths(options)) {
    choices["smoothing"] = absl::StrCat("inputs of q|k|v, gate|up, down and the head, alpha ", kSmoothingAlpha);
    choices["rotation"] = "the same inputs, by a Hadamard matrix over each group";
  }
  if (options.activations == ActivationMode::kA4) {
    choices["int8_inputs"] = absl::StrCat("1/", options.int8_divisor, " of each product's, those of most energy");
  }
  return choices;
}

void PrintSummary(const OpenedModel& model, const QuantizedWeights& weights, size_t bytes) {
  int64_t changed = 0;
  for (const Tensor& tensor : weights.tensors) {
    const Tensor* source = model.file.weights->Find(tensor.name);
    changed += source == nullptr || source->data.data() != tensor.data.data();
  }
  std::printf("%lld of %lld tensors changed, the others as in the file; %lld calibration tokens; %.1f MiB\n",
              static_cast<long long>(changed), static_cast<long long>(weights.tensors.size()),
              static_cast<long long>(weights.tokens), static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

absl::Status RunQuantize(const std::vector<std::string>& /*positionals*/) {
  const std::string path = absl::GetFlag(FLAGS_model), text_path = absl::GetFlag(FLAGS_calibration_text);
  const std::string out = absl::GetFlag(FLAGS_out);
  NIBBLE_RETURN_IF_ERROR(RequireText("model", path));
  NIBBLE_RETURN_IF_ERROR(RequireText("out", out));
  NIBBLE_ASSIGN_OR_RETURN(const QuantizeOptions options, QuantizeOptionsFromFlags());
  std::optional<std::string> text;
  if (!text_path.empty()) {
    NIBBLE_ASSIGN_OR_RETURN(text, ReadWholeFile(text_path));
  }
  NIBBLE_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> source, MappedFile::Open(path));
  if (LooksLikeSafetensors(source->bytes())) {
    return absl::InvalidArgumentError(absl::StrCat("--model=", path, ": is not a GGUF file"));
  }
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(path));
  NIBBLE_RETURN_IF_ERROR(CheckReplaceable(out));
  std::vector<int32_t> ids;
  if (text.has_value()) ids = model.tokenizer->Encode(*text, {});
  if (text.has_value() && ids.empty()) return absl::InvalidArgumentError("--calibration-text: has no tokens");
  std::string stage;
  std::optional<ProgressLine> line;
  const auto show = [&](const std::string& now, int64_t done, int64_t all) {
    if (now != stage) line.emplace(absl::StrCat("quantize: ", stage = now));
    line->Show(done, all);
  };
  NIBBLE_ASSIGN_OR_RETURN(const QuantizedWeights weights, QuantizeWeights(model, ids, options, show));
  line.reset();
  const std::string bytes = SerializeQuantized(
      {ChoicesOf(model, text, options, weights.tokens), source->bytes(), weights.tensors, weights.int8_inputs});
  NIBBLE_RETURN_IF_ERROR(ReplaceFile(out, bytes));
  PrintSummary(model, weights, bytes.size());
  return absl::OkStatus();
}

}  // namespace nibble::engine
