#include "engine/weights/config_hf.h"

#include <cmath>
#include <numbers>
#include <string>
#include <string_view>

#include "engine/weights/architecture.h"
#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr size_t kMaxNameBytes = 256;

// One row per model_type: the architecture that computes it, and what the type implies where config.json is silent.
struct ModelType {
  std::string_view name;
  std::string_view architecture;
  std::string_view activation;
  double rope_base;
  bool tied_embeddings;
};

constexpr ModelType kModelTypes[] = {
    {"llama", "llama", "silu", 1e4, false},
    {"mistral", "llama", "silu", 1e4, false},
    {"qwen2", "qwen2", "silu", 1e4, false},
    {"qwen3", "qwen3", "silu", 1e4, false},
    {"gemma3_text", "gemma3", "gelu_pytorch_tanh", 1e6, true},
};

// Keys of features that are not implemented, and the value with which they do nothing.
struct NeutralKey {
  std::string_view key;
  double neutral;  // of a bool: 0
};

constexpr NeutralKey kNeutralKeys[] = {
    {"attention_bias", 0},        {"mlp_bias", 0},
    {"use_sliding_window", 0},    {"use_bidirectional_attention", 0},
    {"partial_rotary_factor", 1}, {"num_local_experts", 0},
    {"num_experts", 0},
};

absl::StatusOr<const ModelType*> ReadModelType(const JsonDocument& config) {
  const JsonValue value = config["model_type"];
  std::string name, known;
  NIBBLE_RETURN_IF_ERROR(value.Require());
  NIBBLE_RETURN_IF_ERROR(value.ReadText(kMaxNameBytes, &name));
  for (const ModelType& type : kModelTypes) {
    if (type.name == name) return &type;
    known += (known.empty() ? "" : ", ") + std::string(type.name);
  }
  return value.Error(Quoted(name) + " is not supported; known are " + known);
}

absl::Status ReadSize(const JsonDocument& config, std::string_view key, int64_t max, int64_t* size) {
  NIBBLE_RETURN_IF_ERROR(config[key].Require());
  return config[key].ReadInt(1, max, size);
}

absl::Status ReadSizes(const JsonDocument& config, ModelConfig* model) {
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "max_position_embeddings", kMaxContextLength, &model->context_length));
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "vocab_size", kMaxVocabSize, &model->vocab_size));
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "hidden_size", kMaxHiddenSize, &model->hidden_size));
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "intermediate_size", kMaxIntermediateSize, &model->intermediate_size));
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "num_hidden_layers", kMaxLayers, &model->num_layers));
  NIBBLE_RETURN_IF_ERROR(config["rms_norm_eps"].Require());
  return config["rms_norm_eps"].ReadFloat(0, 1, &model->rms_epsilon);
}

absl::Status ReadHeads(const JsonDocument& config, ModelConfig* model) {
  NIBBLE_RETURN_IF_ERROR(ReadSize(config, "num_attention_heads", kMaxHeads, &model->num_heads));
  model->num_kv_heads = model->num_heads;
  const JsonValue kv_heads = config["num_key_value_heads"], head_dim = config["head_dim"];
  NIBBLE_RETURN_IF_ERROR(kv_heads.ReadInt(1, kMaxHeads, &model->num_kv_heads));
  if (model->num_heads % model->num_kv_heads != 0) return kv_heads.Error("does not divide num_attention_heads");
  model->head_dim = model->hidden_size / model->num_heads;
  NIBBLE_RETURN_IF_ERROR(head_dim.ReadInt(2, kMaxHeadDim, &model->head_dim));
  const bool divides = head_dim.present() || model->hidden_size % model->num_heads == 0;
  if (!divides || model->head_dim < 2 || model->head_dim > kMaxHeadDim) {
    return config["num_attention_heads"].Error("does not divide hidden_size into heads of 2 to 1024");
  }
  if (model->head_dim % 2 != 0) return head_dim.Error("(or the length of a head) is odd");
  model->rope_dims = model->head_dim;
  return absl::OkStatus();
}

absl::Status CheckActivation(const JsonDocument& config, const ModelType& type) {
  const JsonValue old_name = config["hidden_act"], new_name = config["hidden_activation"];
  const JsonValue& value = new_name.present() ? new_name : old_name;
  std::string name(type.activation);
  NIBBLE_RETURN_IF_ERROR(value.ReadText(kMaxNameBytes, &name));
  return name == type.activation ? absl::OkStatus() : value.Error(Quoted(name) + " is not supported");
}

absl::Status CheckNeutralKeys(const JsonDocument& config) {
  for (const auto& [key, neutral] : kNeutralKeys) {
    const JsonValue value = config[key];
    if (!value.present()) continue;
    double number = value.json() == true ? 1 : 0;
    if (!value.json().is_boolean()) NIBBLE_RETURN_IF_ERROR(value.ReadNumber(-1e9, 1e9, &number));
    if (number != neutral) return value.Error("is not supported");
  }
  const JsonValue quantization = config["quantization_config"];
  return quantization.present() ? quantization.Error("is not supported") : absl::OkStatus();
}

// Llama 3.1 (arXiv:2407.21783): long wave lengths are stretched by `factor`, short ones kept, between them a ramp.
absl::Status ReadLlama3Factors(const JsonValue& rope, ModelConfig* model) {
  double factor = 0, low = 0, high = 0, original = 0;
  const std::pair<const char*, double*> keys[] = {{"factor", &factor},
                                                  {"low_freq_factor", &low},
                                                  {"high_freq_factor", &high},
                                                  {"original_max_position_embeddings", &original}};
  for (const auto& [key, number] : keys) {
    NIBBLE_RETURN_IF_ERROR(rope[key].Require());
    NIBBLE_RETURN_IF_ERROR(rope[key].ReadNumber(1e-3, 1e9, number));
  }
  if (!(low < high)) return rope["high_freq_factor"].Error("is not above low_freq_factor");
  for (int64_t i = 0; i < model->rope_dims; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(model->rope_dims);
    const double turns = original / (2 * std::numbers::pi * std::pow(model->rope_base, exponent));
    const double ramp = std::fmin(std::fmax((turns - low) / (high - low), 0.0), 1.0);
    model->rope_factors.push_back(static_cast<float>(1 / ((1 - ramp) / factor + ramp)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RopeType(const JsonValue& rope) {
  NIBBLE_RETURN_IF_ERROR(rope.CheckObject());
  std::string type = "default";
  NIBBLE_RETURN_IF_ERROR(rope["type"].ReadText(kMaxNameBytes, &type));  // what rope_type was called once
  NIBBLE_RETURN_IF_ERROR(rope["rope_type"].ReadText(kMaxNameBytes, &type));
  return type;
}

// REQUIRES: model->rope_base and rope_dims are read.
absl::Status ReadRopeScaling(const JsonValue& rope, ModelConfig* model) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string type, RopeType(rope));
  if (type == "default") return absl::OkStatus();
  if (type == "llama3" && model->architecture == "llama") return ReadLlama3Factors(rope, model);
  if (type != "linear") {
    return rope["rope_type"].Error(Quoted(type) + " is not supported; known are default, linear, and llama3 for llama");
  }
  NIBBLE_RETURN_IF_ERROR(rope["factor"].Require());
  return rope["factor"].ReadFloat(1, 1e4, &model->rope_linear_factor);
}

absl::Status ReadRopeBase(const JsonValue& value, float* base) { return value.ReadFloat(1, 1e12, base); }

// Gemma's local layers have a base of their own, and no scaling.
absl::Status ReadLocalRope(const JsonValue& rope, ModelConfig* model) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string type, RopeType(rope));
  if (type != "default") return rope["rope_type"].Error(Quoted(type) + " is not supported");
  return ReadRopeBase(rope["rope_theta"], &model->rope_base_local);
}

// Files of transformers 5 have all in rope_parameters, by kind of layer where kinds differ; those before it in
// rope_theta, rope_scaling and rope_local_base_freq.
absl::Status ReadRope(const JsonDocument& config, const ModelType& type, ModelConfig* model) {
  model->rope_base = static_cast<float>(type.rope_base);
  const JsonValue parameters = config["rope_parameters"];
  NIBBLE_RETURN_IF_ERROR(parameters.CheckObject());
  NIBBLE_RETURN_IF_ERROR(ReadRopeBase(config["rope_theta"], &model->rope_base));
  NIBBLE_RETURN_IF_ERROR(ReadRopeBase(config["rope_local_base_freq"], &model->rope_base_local));
  if (!parameters.present()) return ReadRopeScaling(config["rope_scaling"], model);
  const JsonValue by_layer = parameters["full_attention"];
  const JsonValue& global = by_layer.present() ? by_layer : parameters;
  NIBBLE_RETURN_IF_ERROR(global.CheckObject());
  NIBBLE_RETURN_IF_ERROR(ReadRopeBase(global["rope_theta"], &model->rope_base));
  if (by_layer.present()) NIBBLE_RETURN_IF_ERROR(ReadLocalRope(parameters["sliding_attention"], model));
  return ReadRopeScaling(global, model);
}

// The layers' kinds, where the file lists them, are those of the model.
absl::Status CheckLayerTypes(const JsonValue& types, const ModelConfig& model) {
  NIBBLE_RETURN_IF_ERROR(types.CheckArray());
  if (!types.present()) return absl::OkStatus();
  if (types.size() != static_cast<size_t>(model.num_layers)) return types.Error("are not num_hidden_layers many");
  for (size_t layer = 0; layer < types.size(); ++layer) {
    const bool is_local = model.IsLocal(static_cast<int64_t>(layer));
    if (types.At(layer).json() == (is_local ? "sliding_attention" : "full_attention")) continue;
    return types.At(layer).Error(is_local ? "is not \"sliding_attention\"" : "is not \"full_attention\"");
  }
  return absl::OkStatus();
}

// Gemma 3 (arXiv:2503.19786, section 2): five local layers, then a global one.
absl::Status ReadSlidingWindow(const JsonDocument& config, ModelConfig* model) {
  model->sliding_pattern = 6;
  for (const char* key : {"_sliding_window_pattern", "sliding_window_pattern"}) {
    NIBBLE_RETURN_IF_ERROR(config[key].ReadInt(1, kMaxLayers, &model->sliding_pattern));
  }
  return ReadSize(config, "sliding_window", kMaxContextLength, &model->sliding_window);
}

absl::Status ReadGemma3(const JsonDocument& config, ModelConfig* model) {
  constexpr double kMaxCap = 1e6;
  NIBBLE_RETURN_IF_ERROR(ReadSlidingWindow(config, model));
  NIBBLE_RETURN_IF_ERROR(config["final_logit_softcapping"].ReadFloat(0, kMaxCap, &model->final_logit_softcap));
  NIBBLE_RETURN_IF_ERROR(config["attn_logit_softcapping"].ReadFloat(0, kMaxCap, &model->attention_logit_softcap));
  float scalar = 256;
  NIBBLE_RETURN_IF_ERROR(config["query_pre_attn_scalar"].ReadFloat(1e-6, 1e9, &scalar));
  model->attention_scale = 1.0f / std::sqrt(scalar);
  return absl::OkStatus();
}

// A window as long as the context hides nothing. Of the other types, llama has none and qwen's is off unless
// use_sliding_window says otherwise, which is refused.
absl::Status CheckMistralWindow(const JsonDocument& config, const ModelConfig& model) {
  int64_t window = model.context_length;
  const JsonValue value = config["sliding_window"];
  NIBBLE_RETURN_IF_ERROR(value.ReadInt(1, kMaxContextLength, &window));
  return window >= model.context_length ? absl::OkStatus() : value.Error("is not supported");
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromHf(const JsonDocument& config) {
  NIBBLE_ASSIGN_OR_RETURN(const ModelType* type, ReadModelType(config));
  ModelConfig model;
  model.architecture = type->architecture;
  model.rope_interleaved = FindArchitecture(type->architecture)->rope_interleaved;
  NIBBLE_RETURN_IF_ERROR(ReadSizes(config, &model));
  NIBBLE_RETURN_IF_ERROR(ReadHeads(config, &model));
  NIBBLE_RETURN_IF_ERROR(CheckActivation(config, *type));
  NIBBLE_RETURN_IF_ERROR(CheckNeutralKeys(config));
  NIBBLE_RETURN_IF_ERROR(ReadRope(config, *type, &model));
  model.attention_scale = 1.0f / std::sqrt(static_cast<float>(model.head_dim));
  if (model.architecture == "gemma3") NIBBLE_RETURN_IF_ERROR(ReadGemma3(config, &model));
  if (type->name == "mistral") NIBBLE_RETURN_IF_ERROR(CheckMistralWindow(config, model));
  NIBBLE_RETURN_IF_ERROR(CheckLayerTypes(config["layer_types"], model));
  model.tied_embeddings = type->tied_embeddings;
  NIBBLE_RETURN_IF_ERROR(config["tie_word_embeddings"].ReadBool(&model.tied_embeddings));
  return model;
}

}  // namespace nibble::engine
