#include "engine/tools/flags.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <tuple>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/codec.h"

ABSL_FLAG(std::string, model, "", "model: a GGUF file, a Hugging Face folder, or a file of `nibble quantize`");
ABSL_FLAG(std::string, prompt, "", "the prompt's text");
ABSL_FLAG(std::string, prompt_file, "", "file that holds the prompt");
ABSL_FLAG(bool, chat, false, "wrap the prompt as a user's message in the model's own chat template");
ABSL_FLAG(int32_t, max_tokens, 256, "most tokens to generate");
ABSL_FLAG(absl::optional<float>, temperature, absl::nullopt, "0: the most likely token, always");
ABSL_FLAG(absl::optional<uint64_t>, seed, absl::nullopt, "seed of the draws");
ABSL_FLAG(std::vector<std::string>, weights, {"file"}, "weights in memory: file, w8, w4, f32 (eval: a list)");
ABSL_FLAG(
    std::vector<std::string>, activations, {},
    "activations before each product: a8, a4, f32 (eval: a list); without it a8, or f32 where the weights are f32");
ABSL_FLAG(std::vector<std::string>, kv, {},
          "KV cache codec (eval, bench, calibrate: a list); without it f16, and calibrate makes all that it can");
ABSL_FLAG(std::string, kv_calibration, "",
          "file of `nibble calibrate` for this model (.nibblekv); the codecs cq* and klt* need one");
ABSL_FLAG(int32_t, threads, 0, "threads; 0: as many as the machine runs at once");
ABSL_FLAG(std::string, json, "", "write one JSON object to this file; - for stdout");
ABSL_FLAG(std::string, text, "", "eval, calibrate: file of text to score or learn from; tokenize: the text itself");
ABSL_FLAG(std::string, out, "", "file to write");
ABSL_FLAG(std::string, calibration_text, "",
          "file of text like what will be served: what is rounded or compressed is fitted to it");
ABSL_FLAG(std::string, file, "", "file that holds the text");
ABSL_FLAG(int32_t, context, 2048, "tokens of a chunk");
ABSL_FLAG(absl::optional<int32_t>, chunks, absl::nullopt,
          "most chunks to run; without it 8, 32 to calibrate (spread over the text), 2 to fit a delta's scales");
ABSL_FLAG(std::string, score, "second-half", "positions of a chunk to score: second-half, all");
ABSL_FLAG(int32_t, prefill, 512, "tokens of a prompt");
ABSL_FLAG(int32_t, decode, 128, "steps of a decode");
ABSL_FLAG(std::vector<std::string>, batch, std::vector<std::string>({"1", "4", "8", "16", "32"}),
          "sequences that decode together, a list");
ABSL_FLAG(std::vector<std::string>, depth, std::vector<std::string>({"0", "2048", "6144"}),
          "tokens already in the cache, a list");
ABSL_FLAG(std::vector<std::string>, retrieval, {},
          "instead of scoring the text: hide needles in prompts of these lengths and ask for them, a list of tokens");
ABSL_FLAG(absl::optional<int32_t>, kv_window, absl::nullopt, "pages before a query's own that it reads raw");
ABSL_FLAG(absl::optional<int32_t>, kv_sink, absl::nullopt, "first pages that every query reads raw");
ABSL_FLAG(std::string, base, "",
          "model that a fine-tune started from, of eval: whose f32 values to compare with (without it --model's own): "
          "a GGUF file, or a Hugging Face folder");
ABSL_FLAG(std::string, tuned, "", "the fine-tune: a GGUF file, or a Hugging Face folder");
ABSL_FLAG(std::string, adapter, "", "file of `nibble delta compress`; of `chat`: a name that the daemon knows");
ABSL_FLAG(std::vector<std::string>, adapters, {"0"}, "fine-tunes that the sequences take in turn, comma-separated");
ABSL_FLAG(int32_t, planes, 1, "sign planes: the second keeps what the first leaves, 1 or 2");
ABSL_FLAG(std::string, scales, "matrix", "scales of the signs: one a matrix, or one a row");
ABSL_FLAG(int32_t, repeat, 3, "runs of each row; the median counts");

namespace nibble::engine {
namespace {

bool CanPair(const std::string& weights, const std::string& activations) {
  return weights != "f32" || activations == "f32";
}

absl::Status CheckCodec(const std::string& name) {
  const kv::Codec* const codec = kv::FindCodec(name);
  if (codec == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("kv: '", name, "' is not a codec of this build"));
  if (!codec->calibrated || !absl::GetFlag(FLAGS_kv_calibration).empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--kv-calibration: the codec ", name, " needs one; make it with `nibble calibrate`"));
}

absl::Status CheckNames(const std::vector<std::string>& weights, const std::vector<std::string>& activations,
                        const std::vector<std::string>& kv) {
  if (weights.empty()) return absl::InvalidArgumentError("--weights: is empty");
  for (const std::string& name : weights) NIBBLE_RETURN_IF_ERROR(ParseWeightMode(name).status());
  for (const std::string& name : activations) NIBBLE_RETURN_IF_ERROR(ParseActivationMode(name).status());
  for (const std::string& name : kv) NIBBLE_RETURN_IF_ERROR(CheckCodec(name));
  return absl::OkStatus();
}

// The activations to run these weights with.
absl::StatusOr<std::vector<std::string>> PartnersOf(const std::string& weights,
                                                    const std::vector<std::string>& activations) {
  if (activations.empty()) return std::vector<std::string>{weights == "f32" ? "f32" : "a8"};
  std::vector<std::string> partners;
  std::copy_if(activations.begin(), activations.end(), std::back_inserter(partners),
               [&](const std::string& name) { return CanPair(weights, name); });
  if (partners.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--weights=", weights, " needs --activations=f32"));
  }
  return partners;
}

}  // namespace

absl::StatusOr<std::vector<RunMode>> RunModesFromFlags() {
  const std::vector<std::string> weights = absl::GetFlag(FLAGS_weights);
  const std::vector<std::string> activations = absl::GetFlag(FLAGS_activations);
  const std::vector<std::string> codecs = CodecsFromFlags();
  NIBBLE_RETURN_IF_ERROR(CheckNames(weights, activations, codecs));
  std::vector<RunMode> modes;
  for (const std::string& weight : weights) {
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string> partners, PartnersOf(weight, activations));
    for (const std::string& activation : partners) {
      for (const std::string& kv : codecs) modes.push_back({weight, activation, kv});
    }
  }
  return modes;
}

std::vector<std::string> CodecsFromFlags() {
  std::vector<std::string> codecs = absl::GetFlag(FLAGS_kv);
  return codecs.empty() ? std::vector<std::string>{"f16"} : codecs;
}

absl::StatusOr<EngineOptions> OptionsFor(const RunMode& mode) {
  EngineOptions options;
  NIBBLE_ASSIGN_OR_RETURN(options.weights, ParseWeightMode(mode.weights));
  NIBBLE_ASSIGN_OR_RETURN(options.activations, ParseActivationMode(mode.activations));
  options.kv_codec = mode.kv;
  for (const auto& [name, value, place] : {std::tuple("kv-window", absl::GetFlag(FLAGS_kv_window), &options.kv_window),
                                           std::tuple("kv-sink", absl::GetFlag(FLAGS_kv_sink), &options.kv_sink)}) {
    if (!value.has_value()) continue;
    NIBBLE_RETURN_IF_ERROR(RequireAtLeast(name, *value, 0));
    *place = *value;
  }
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("threads", absl::GetFlag(FLAGS_threads), 0));
  options.threads = ThreadsFromFlags();
  if (const char* isa = std::getenv("NIBBLE_ISA"); isa != nullptr) options.isa = isa;
  return options;
}

int ThreadsFromFlags() {
  const int32_t threads = absl::GetFlag(FLAGS_threads);
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

absl::Status RequireText(const char* flag, const std::string& value) {
  return value.empty() ? absl::InvalidArgumentError(absl::StrCat("--", flag, " is needed")) : absl::OkStatus();
}

absl::Status RequireAtLeast(const char* flag, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", value, ": must be at least ", least));
}

absl::StatusOr<std::vector<int64_t>> NumbersOf(const char* flag, const std::vector<std::string>& values,
                                               int64_t least) {
  if (values.empty()) return absl::InvalidArgumentError(absl::StrCat("--", flag, ": is empty"));
  std::vector<int64_t> numbers;
  for (const std::string& value : values) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(value, &number)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": '", value, "' is not a whole number"));
    }
    NIBBLE_RETURN_IF_ERROR(RequireAtLeast(flag, number, least));
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace nibble::engine
