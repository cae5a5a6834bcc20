#include "engine/weights/config_gguf.h"

#include <cmath>
#include <string>
#include <vector>

#include "engine/weights/architecture.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/gguf_value.h"
#include "engine/weights/tensor_table.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Keys of features that are not implemented, and the values with which they do nothing.
struct NeutralKey {
  std::string_view key;
  double neutral;
  unsigned architectures;
};

constexpr NeutralKey kNeutralKeys[] = {
    {"expert_count", 0, kAllArchitectures},
    {"rope.scale_linear", 1, kAllArchitectures},
    {"rope.scaling.attn_factor", 1, kAllArchitectures},
    {"attention.sliding_window", 0, kAllArchitectures & ~kGemma3},
    {"attention.clamp_kqv", 0, kAllArchitectures},
    {"attention.max_alibi_bias", 0, kAllArchitectures},
    {"logit_scale", 1, kAllArchitectures},
    {"embedding_scale", 1, kAllArchitectures},
    {"residual_scale", 1, kAllArchitectures},
};

// The keys of one architecture. Reading leaves the variable as it is where an optional key is absent.
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + ".") {}

  const GgufValue* Find(std::string_view key) const { return file_.Find(prefix_ + std::string(key)); }

  absl::Status OptionalInt(std::string_view key, int64_t min, int64_t max, int64_t* number) const {
    const GgufValue* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    NIBBLE_ASSIGN_OR_RETURN(const uint64_t read, AsUnsigned(*value));
    if (read < static_cast<uint64_t>(min) || read > static_cast<uint64_t>(max)) {
      return ValueError(*value,
                        std::to_string(read) + " is not within " + std::to_string(min) + " to " + std::to_string(max));
    }
    *number = static_cast<int64_t>(read);
    return absl::OkStatus();
  }

  absl::Status OptionalFloat(std::string_view key, float min, float max, float* number) const {
    const GgufValue* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    NIBBLE_ASSIGN_OR_RETURN(const float read, AsFloat(*value));
    if (read < min || read > max) {
      return ValueError(*value,
                        std::to_string(read) + " is not within " + std::to_string(min) + " to " + std::to_string(max));
    }
    *number = read;
    return absl::OkStatus();
  }

  absl::Status Int(std::string_view key, int64_t max, int64_t* number) const {
    NIBBLE_RETURN_IF_ERROR(CheckPresent(key));
    return OptionalInt(key, 1, max, number);
  }

  absl::Status Float(std::string_view key, float min, float max, float* number) const {
    NIBBLE_RETURN_IF_ERROR(CheckPresent(key));
    return OptionalFloat(key, min, max, number);
  }

  absl::Status Error(std::string_view key, std::string_view what) const {
    const GgufValue* value = Find(key);
    const uint64_t offset = value != nullptr ? value->offset : GgufFile::metadata_offset();
    return FormatError("key " + Quoted(prefix_ + std::string(key)), offset, what);
  }

 private:
  absl::Status CheckPresent(std::string_view key) const {
    return Find(key) != nullptr ? absl::OkStatus() : Error(key, "is missing");
  }

  const GgufFile& file_;
  std::string prefix_;
};

absl::StatusOr<const Architecture*> ReadArchitecture(const GgufFile& file) {
  const GgufValue* value = file.Find("general.architecture");
  if (value == nullptr) {
    return FormatError("key \"general.architecture\"", GgufFile::metadata_offset(), "is missing");
  }
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view name, AsString(*value));
  if (const Architecture* found = FindArchitecture(name); found != nullptr) return found;
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return ValueError(*value, Quoted(name) + " is not supported; known are " + known);
}

absl::Status ReadName(const GgufFile& file, ModelConfig* config) {
  const GgufValue* value = file.Find("general.name");
  if (value == nullptr) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view name, AsString(*value));
  config->name = name;
  return absl::OkStatus();
}

absl::Status ReadSizes(const Keys& keys, ModelConfig* config) {
  NIBBLE_RETURN_IF_ERROR(keys.Int("context_length", kMaxContextLength, &config->context_length));
  NIBBLE_RETURN_IF_ERROR(keys.Int("embedding_length", kMaxHiddenSize, &config->hidden_size));
  NIBBLE_RETURN_IF_ERROR(keys.Int("feed_forward_length", kMaxIntermediateSize, &config->intermediate_size));
  NIBBLE_RETURN_IF_ERROR(keys.Int("block_count", kMaxLayers, &config->num_layers));
  return keys.Float("attention.layer_norm_rms_epsilon", 0.0f, 1.0f, &config->rms_epsilon);
}

absl::Status ReadHeads(const Keys& keys, ModelConfig* config) {
  NIBBLE_RETURN_IF_ERROR(keys.Int("attention.head_count", kMaxHeads, &config->num_heads));
  config->num_kv_heads = config->num_heads;
  NIBBLE_RETURN_IF_ERROR(keys.OptionalInt("attention.head_count_kv", 1, kMaxHeads, &config->num_kv_heads));
  if (config->num_heads % config->num_kv_heads != 0) {
    return keys.Error("attention.head_count_kv", "does not divide attention.head_count");
  }
  if (keys.Find("attention.key_length") != nullptr) {
    NIBBLE_RETURN_IF_ERROR(keys.Int("attention.key_length", kMaxHeadDim, &config->head_dim));
  } else if (config->hidden_size % config->num_heads == 0 && config->hidden_size / config->num_heads <= kMaxHeadDim) {
    config->head_dim = config->hidden_size / config->num_heads;
  } else {
    return keys.Error("attention.head_count", "does not divide embedding_length into heads of 1 to 1024");
  }
  int64_t value_length = config->head_dim;
  NIBBLE_RETURN_IF_ERROR(keys.OptionalInt("attention.value_length", 1, kMaxHeadDim, &value_length));
  if (value_length == config->head_dim) return absl::OkStatus();
  return keys.Error("attention.value_length", "differs from the length of keys");
}

absl::Status ReadRopeScaling(const Keys& keys, ModelConfig* config) {
  const GgufValue* value = keys.Find("rope.scaling.type");
  if (value == nullptr) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view type, AsString(*value));
  if (type == "none") return absl::OkStatus();
  if (type == "linear") return keys.Float("rope.scaling.factor", 1.0f, 1e4f, &config->rope_linear_factor);
  return ValueError(*value, Quoted(type) + " is not supported; known are \"none\" and \"linear\"");
}

absl::Status ReadRope(const Keys& keys, const Architecture& architecture, ModelConfig* config) {
  config->rope_interleaved = architecture.rope_interleaved;
  config->rope_dims = config->head_dim;
  NIBBLE_RETURN_IF_ERROR(keys.OptionalInt("rope.dimension_count", 2, config->head_dim, &config->rope_dims));
  if (config->rope_dims % 2 != 0) return keys.Error("rope.dimension_count", "(or the length of a head) is odd");
  NIBBLE_RETURN_IF_ERROR(keys.OptionalFloat("rope.freq_base", 1.0f, 1e12f, &config->rope_base));
  return ReadRopeScaling(keys, config);
}

absl::Status ReadSoftcaps(const Keys& keys, ModelConfig* config) {
  constexpr float kMax = 1e6f;
  NIBBLE_RETURN_IF_ERROR(keys.OptionalFloat("final_logit_softcapping", 0.0f, kMax, &config->final_logit_softcap));
  return keys.OptionalFloat("attn_logit_softcapping", 0.0f, kMax, &config->attention_logit_softcap);
}

// Gemma 3 (arXiv:2503.19786, section 2): five local layers, then a global one.
absl::Status ReadSlidingWindow(const Keys& keys, ModelConfig* config) {
  config->sliding_pattern = 6;
  NIBBLE_RETURN_IF_ERROR(keys.OptionalInt("attention.sliding_window_pattern", 1, kMaxLayers, &config->sliding_pattern));
  NIBBLE_RETURN_IF_ERROR(keys.OptionalFloat("rope.freq_base_swa", 1.0f, 1e12f, &config->rope_base_local));
  NIBBLE_RETURN_IF_ERROR(keys.Float("rope.freq_base", 1.0f, 1e12f, &config->rope_base));
  return keys.Int("attention.sliding_window", kMaxContextLength, &config->sliding_window);
}

absl::Status ReadAttentionScale(const Keys& keys, const Architecture& architecture, ModelConfig* config) {
  // The 27B model, told by its 62 layers, scales by the width per head instead of the length of a head.
  constexpr int64_t kGemma27bLayers = 62;
  const bool by_width = architecture.bit == kGemma3 && config->num_layers == kGemma27bLayers;
  const int64_t length = by_width ? config->hidden_size / config->num_heads : config->head_dim;
  config->attention_scale = 1.0f / std::sqrt(static_cast<float>(length));
  return keys.OptionalFloat("attention.scale", 1e-6f, 1e3f, &config->attention_scale);
}

absl::StatusOr<double> AsNumber(const GgufValue& value) {
  if (value.type == GgufType::kFloat32 || value.type == GgufType::kFloat64) return AsFloat(value);
  return AsUnsigned(value);
}

absl::Status CheckNeutralKeys(const Keys& keys, unsigned architecture) {
  for (const NeutralKey& neutral : kNeutralKeys) {
    const GgufValue* value = keys.Find(neutral.key);
    if (value == nullptr || (neutral.architectures & architecture) == 0) continue;
    NIBBLE_ASSIGN_OR_RETURN(const double number, AsNumber(*value));
    if (number != neutral.neutral) return ValueError(*value, std::to_string(number) + " is not supported");
  }
  return absl::OkStatus();
}

// vocab_size is what the file's embedding has.
absl::Status ReadVocabulary(const GgufFile& file, const Keys& keys, ModelConfig* config) {
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return FormatError("tensor \"token_embd.weight\"", file.tensor_table_offset(), "is missing");
  }
  if (embedding->shape[0] > kMaxVocabSize) {
    return FormatError("tensor \"token_embd.weight\"", embedding->entry_offset,
                       "has more than " + std::to_string(kMaxVocabSize) + " rows");
  }
  config->vocab_size = embedding->shape[0];
  config->tied_embeddings = file.FindTensor("output.weight") == nullptr;
  return keys.OptionalInt("vocab_size", config->vocab_size, config->vocab_size, &config->vocab_size);
}

absl::Status ReadRopeFactors(const GgufFile& file, ModelConfig* config) {
  const GgufTensor* tensor = file.FindTensor("rope_freqs.weight");
  if (tensor == nullptr) return absl::OkStatus();
  config->rope_factors.resize(static_cast<size_t>(config->rope_dims / 2));
  tensor->traits->decode(tensor->data.data(), absl::MakeSpan(config->rope_factors));
  for (const float factor : config->rope_factors) {
    if (!(factor > 0.0f && std::isfinite(factor))) {
      return FormatError("data of tensor \"rope_freqs.weight\"", tensor->data_offset, "is not finite and positive");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufFile& file) {
  NIBBLE_ASSIGN_OR_RETURN(const Architecture* architecture, ReadArchitecture(file));
  ModelConfig config;
  config.architecture = architecture->name;
  const Keys keys(file, architecture->name);
  NIBBLE_RETURN_IF_ERROR(ReadName(file, &config));
  NIBBLE_RETURN_IF_ERROR(ReadSizes(keys, &config));
  NIBBLE_RETURN_IF_ERROR(ReadHeads(keys, &config));
  NIBBLE_RETURN_IF_ERROR(ReadRope(keys, *architecture, &config));
  NIBBLE_RETURN_IF_ERROR(ReadSoftcaps(keys, &config));
  if (architecture->bit == kGemma3) NIBBLE_RETURN_IF_ERROR(ReadSlidingWindow(keys, &config));
  NIBBLE_RETURN_IF_ERROR(ReadAttentionScale(keys, *architecture, &config));
  NIBBLE_RETURN_IF_ERROR(CheckNeutralKeys(keys, architecture->bit));
  NIBBLE_RETURN_IF_ERROR(ReadVocabulary(file, keys, &config));
  NIBBLE_RETURN_IF_ERROR(CheckTensors(file, config, architecture->bit));
  NIBBLE_RETURN_IF_ERROR(ReadRopeFactors(file, &config));
  return config;
}

}  // namespace nibble::engine
