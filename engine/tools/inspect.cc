#include "engine/tools/inspect.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "engine/adapters/delta_file.h"
#include "engine/tools/inspect_calibration.h"
#include "engine/tools/inspect_delta.h"
#include "engine/tools/inspect_line.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/folder_hf.h"
#include "engine/weights/gguf.h"
#include "engine/weights/gguf_source.h"
#include "engine/weights/mapped_file.h"
#include "engine/weights/model_file.h"
#include "engine/weights/quantized_file.h"
#include "engine/weights/safetensors.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

std::string Mebibytes(uint64_t bytes) { return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20)); }

std::string Number(double value) { return absl::StrFormat("%g", value); }

void PrintContainer(const GgufFile& file, std::ostream& out) {
  Line(out, "container",
       absl::StrFormat("GGUF version %d, %s, alignment %d", file.version(), Mebibytes(file.size_bytes()),
                       file.alignment()));
  Line(out, "metadata", absl::StrFormat("%d entries", file.metadata().size()));
  Line(out, "tensors", absl::StrFormat("%d", file.tensors().size()));
}

void PrintFolder(const WeightSource& weights, std::ostream& out) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : weights.tensors()) bytes += tensor.data.size();
  Line(out, "container", "Hugging Face folder, " + Mebibytes(bytes));
  Line(out, "tensors", absl::StrFormat("%d", weights.tensors().size()));
}

void PrintTensors(const WeightSource& weights, std::ostream& out) {
  for (const EncodingTraits& traits : AllEncodings()) {
    uint64_t tensors = 0, bytes = 0, elements = 0;
    for (const Tensor& tensor : weights.tensors()) {
      if (tensor.encoding != traits.encoding) continue;
      ++tensors;
      bytes += tensor.data.size();
      elements +=
          tensor.data.size() / static_cast<uint64_t>(traits.block_bytes) * static_cast<uint64_t>(traits.block_elements);
    }
    if (tensors == 0) continue;
    Line(out, "  " + std::string(traits.name),
         absl::StrFormat("%d of %.1f M elements, %s", tensors, static_cast<double>(elements) * 1e-6, Mebibytes(bytes)));
  }
}

void PrintRope(const ModelConfig& config, std::ostream& out) {
  std::string rope = absl::StrFormat("base %s, %d dimensions, %s", Number(config.rope_base), config.rope_dims,
                                     config.rope_interleaved ? "interleaved" : "halves");
  if (config.rope_linear_factor != 1.0f) rope += ", linear factor " + Number(config.rope_linear_factor);
  if (!config.rope_factors.empty()) rope += ", frequency factors";
  Line(out, "rope", rope);
}

void PrintConfig(const ModelConfig& config, std::ostream& out) {
  Line(out, "architecture", config.architecture);
  Line(out, "name", Quoted(config.name));
  Line(out, "context_length", absl::StrFormat("%d", config.context_length));
  Line(out, "layers",
       absl::StrFormat("%d of width %d, inner %d", config.num_layers, config.hidden_size, config.intermediate_size));
  Line(out, "heads",
       absl::StrFormat("%d, %d of keys and values, of length %d", config.num_heads, config.num_kv_heads,
                       config.head_dim));
  Line(out, "vocabulary", absl::StrFormat("%d, %s head", config.vocab_size, config.tied_embeddings ? "tied" : "own"));
  PrintRope(config, out);
  Line(out, "rms_epsilon", Number(config.rms_epsilon));
  Line(out, "attention_scale", Number(config.attention_scale));
  if (config.sliding_window > 0) {
    Line(out, "sliding_window",
         absl::StrFormat("%d, global every %d layers, local rope base %s", config.sliding_window,
                         config.sliding_pattern, Number(config.rope_base_local)));
  }
  if (config.final_logit_softcap > 0) Line(out, "final_logit_softcap", Number(config.final_logit_softcap));
  if (config.attention_logit_softcap > 0) Line(out, "attention_logit_softcap", Number(config.attention_logit_softcap));
}

std::string SpecialTokens(const TokenizerData& data) {
  const std::pair<const char*, int32_t> tokens[] = {
      {"bos", data.bos}, {"eos", data.eos}, {"eot", data.eot}, {"unknown", data.unknown}, {"pad", data.pad}};
  std::string text;
  for (const auto& [name, id] : tokens) {
    if (id < 0) continue;
    text += text.empty() ? "" : ", ";
    text += absl::StrFormat("%s %d %s", name, id, Quoted(data.tokens[static_cast<size_t>(id)]));
  }
  return text.empty() ? "none" : text;
}

void PrintTokenizer(const TokenizerData& data, std::ostream& out) {
  const bool bpe = data.style == TokenizerData::Style::kByteLevelBpe;
  Line(out, "tokenizer",
       absl::StrFormat("%s %s, %d tokens, %d merges", bpe ? "byte-level BPE" : "SentencePiece", Quoted(data.pre),
                       data.tokens.size(), data.merges.size()));
  Line(out, "special_tokens", SpecialTokens(data));
  Line(out, "adds",
       absl::StrFormat("bos %s, eos %s, space prefix %s", data.add_bos ? "yes" : "no", data.add_eos ? "yes" : "no",
                       data.add_space_prefix ? "yes" : "no"));
  Line(out, "chat_template", absl::StrFormat("%d bytes", data.chat_template.size()));
}

// What made the file, without what only its reader needs.
void PrintChoices(const SafetensorsFile& file, std::ostream& out) {
  for (const auto& [key, text] : file.metadata()) {
    if (!key.starts_with("encoding.") && !key.starts_with("format")) Line(out, Quoted(key), Quoted(text));
  }
}

// Tells of the container what was proven of it even where the model is refused.
absl::StatusOr<ModelFile> OpenGguf(const std::shared_ptr<const MappedFile>& mapped, std::ostream& out) {
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(mapped->bytes()));
  PrintContainer(file, out);
  PrintTensors(*MakeGgufSource(file, nullptr), out);
  return ParseModelFile(mapped->bytes(), mapped);
}

absl::StatusOr<ModelFile> OpenQuantized(const std::shared_ptr<const MappedFile>& mapped, const SafetensorsFile& file,
                                        std::ostream& out) {
  Line(out, "container", absl::StrFormat("nibble-quantized, %s", Mebibytes(mapped->bytes().size())));
  PrintChoices(file, out);
  NIBBLE_ASSIGN_OR_RETURN(ModelFile model, ParseModelFile(mapped->bytes(), mapped));
  PrintTensors(*model.weights, out);
  return model;
}

absl::StatusOr<ModelFile> OpenFolder(const std::string& path, std::ostream& out) {
  NIBBLE_ASSIGN_OR_RETURN(ModelFile model, OpenModelFolder(path));
  PrintFolder(*model.weights, out);
  PrintTensors(*model.weights, out);
  return model;
}

absl::Status PrintModel(const absl::StatusOr<ModelFile>& model, std::ostream& out) {
  NIBBLE_RETURN_IF_ERROR(model.status());
  PrintConfig(model->config, out);
  PrintTokenizer(model->tokenizer, out);
  Line(out, "weights_sha256", ModelSha256(*model->weights));  // of which deltas and calibrations say that they are
  return absl::OkStatus();
}

// Which of the safetensors files of ours it is, its metadata say; a calibration where they do not, which then says what
// is wrong.
absl::Status InspectSafetensors(const std::string& path, const std::shared_ptr<const MappedFile>& mapped,
                                std::ostream& out) {
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Parse(mapped->bytes());
  const std::string* const format = file.ok() ? file->FindMetadata("format") : nullptr;
  if (format != nullptr && *format == kDeltaFormat) return InspectDelta(path, out);
  if (format != nullptr && *format == kQuantizedFormat) return PrintModel(OpenQuantized(mapped, *file, out), out);
  return InspectCalibration(path, out);
}

}  // namespace

absl::Status Inspect(const std::string& path, std::ostream& out) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return PrintModel(OpenFolder(path, out), out);
  NIBBLE_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> mapped, MappedFile::Open(path));
  if (LooksLikeSafetensors(mapped->bytes())) return InspectSafetensors(path, mapped, out);
  return PrintModel(OpenGguf(mapped, out), out);
}

}  // namespace nibble::engine
