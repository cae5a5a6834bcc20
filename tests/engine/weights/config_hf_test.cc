#include "engine/weights/config_hf.h"

#include <cmath>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

Json Llama() {
  return {{"model_type", "llama"},
          {"max_position_embeddings", 64},
          {"vocab_size", 6},
          {"hidden_size", 8},
          {"intermediate_size", 12},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"tie_word_embeddings", true},
          {"rope_scaling", nullptr}};
}

Json Gemma() {
  Json json = Llama();
  json.update(Json{{"model_type", "gemma3_text"},
                   {"hidden_act", nullptr},
                   {"hidden_activation", "gelu_pytorch_tanh"},
                   {"head_dim", 6},
                   {"query_pre_attn_scalar", 16},
                   {"sliding_window", 32}});
  json.erase("tie_word_embeddings");
  return json;
}

absl::StatusOr<ModelConfig> Read(const Json& json) {
  const auto document = JsonDocument::Parse(json.dump(), "config.json");
  EXPECT_THAT(document, IsOk());
  return ConfigFromHf(*document);
}

ModelConfig Config(const Json& json) {
  const auto config = Read(json);
  EXPECT_THAT(config, IsOk());
  return config.ok() ? *config : ModelConfig();
}

Json With(Json json, const std::string& key, Json value) {
  json[key] = std::move(value);
  return json;
}

auto Refused(const std::string& key, const std::string& what) {
  return StatusIs(absl::StatusCode::kFailedPrecondition,
                  AllOf(HasSubstr("config.json: " + key + ": "), HasSubstr(what)));
}

TEST(ConfigHf, ReadsLlama) {
  const ModelConfig config = Config(Llama());
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.context_length, 64);
  EXPECT_EQ(config.vocab_size, 6);
  EXPECT_EQ(config.hidden_size, 8);
  EXPECT_EQ(config.intermediate_size, 12);
  EXPECT_EQ(config.num_layers, 2);
  EXPECT_EQ(config.num_heads, 2);
  EXPECT_EQ(config.num_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.rope_dims, 4);
  EXPECT_EQ(config.rms_epsilon, 1e-5f);
  EXPECT_EQ(config.rope_base, 5e5f);
  EXPECT_EQ(config.attention_scale, 0.5f);
  EXPECT_TRUE(config.rope_interleaved);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_TRUE(config.rope_factors.empty());
}

TEST(ConfigHf, WhatIsUnsaidIsWhatTheTypeImplies) {
  Json llama = Llama();
  for (const char* key : {"num_key_value_heads", "rope_theta", "tie_word_embeddings", "hidden_act"}) llama.erase(key);
  EXPECT_EQ(Config(llama).num_kv_heads, 2);
  EXPECT_EQ(Config(llama).rope_base, 1e4f);
  EXPECT_FALSE(Config(llama).tied_embeddings);
  EXPECT_TRUE(Config(Gemma()).tied_embeddings);
  EXPECT_FALSE(Config(With(Llama(), "model_type", "qwen2")).rope_interleaved);
  EXPECT_EQ(Config(With(Llama(), "model_type", "mistral")).architecture, "llama");
}

TEST(ConfigHf, ReadsGemma3) {
  Json json = Gemma();
  json.update(Json{{"rope_local_base_freq", 5000}, {"final_logit_softcapping", 30}, {"attn_logit_softcapping", 50}});
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8}};
  const ModelConfig config = Config(json);
  EXPECT_EQ(config.head_dim, 6);
  EXPECT_EQ(config.attention_scale, 0.25f);
  EXPECT_EQ(config.sliding_window, 32);
  EXPECT_EQ(config.sliding_pattern, 6);
  EXPECT_EQ(config.rope_base, 5e5f);
  EXPECT_EQ(config.rope_base_local, 5000.0f);
  EXPECT_EQ(config.rope_linear_factor, 8.0f);
  EXPECT_EQ(config.final_logit_softcap, 30.0f);
  EXPECT_EQ(config.attention_logit_softcap, 50.0f);
  EXPECT_EQ(Config(With(Gemma(), "_sliding_window_pattern", 3)).sliding_pattern, 3);
}

TEST(ConfigHf, ReadsRopeParameters) {
  Json json = Llama();
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 7e4}, {"factor", 2}};
  EXPECT_EQ(Config(json).rope_base, 7e4f);
  EXPECT_EQ(Config(json).rope_linear_factor, 2.0f);
  Json gemma = Gemma();
  gemma["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 2e6}}},
                              {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 3e4}}}};
  EXPECT_EQ(Config(gemma).rope_base, 2e6f);
  EXPECT_EQ(Config(gemma).rope_base_local, 3e4f);
  gemma["rope_parameters"]["sliding_attention"]["rope_type"] = "linear";
  EXPECT_THAT(Read(gemma), Refused("rope_parameters.sliding_attention.rope_type", "\"linear\" is not supported"));
}

// By the rule as its makers wrote it (transformers, modeling_rope_utils): three cases by wave length.
TEST(ConfigHf, FrequencyFactorsAreLlama3s) {
  Json json = Llama();
  json.update(Json{{"hidden_size", 128}, {"num_attention_heads", 1}});
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 8192}};
  const ModelConfig config = Config(json);
  ASSERT_EQ(config.rope_factors.size(), 64u);
  int kept = 0, stretched = 0;
  for (int i = 0; i < 64; ++i) {
    const double wave_length = 2 * M_PI * std::pow(500000.0, i / 64.0);
    double expected = 8;
    if (wave_length < 8192 / 4.0) {
      expected = 1;
    } else if (wave_length <= 8192 / 1.0) {
      const double smooth = (8192 / wave_length - 1) / (4 - 1);
      expected = 1 / ((1 - smooth) / 8 + smooth);
    }
    kept += expected == 1;
    stretched += expected == 8;
    EXPECT_FLOAT_EQ(config.rope_factors[static_cast<size_t>(i)], static_cast<float>(expected)) << i;
  }
  EXPECT_GT(kept, 20);
  EXPECT_GT(stretched, 20);
  json["rope_scaling"].erase("factor");
  EXPECT_THAT(Read(json), Refused("rope_scaling.factor", "is missing"));
  json["rope_scaling"].update(Json{{"factor", 8}, {"high_freq_factor", 1}});
  EXPECT_THAT(Read(json), Refused("rope_scaling.high_freq_factor", "is not above"));
}

TEST(ConfigHf, Row51_SizesAreBounded) {
  const std::pair<const char*, int64_t> limits[] = {{"max_position_embeddings", kMaxContextLength},
                                                    {"vocab_size", kMaxVocabSize},
                                                    {"hidden_size", kMaxHiddenSize},
                                                    {"intermediate_size", kMaxIntermediateSize},
                                                    {"num_hidden_layers", kMaxLayers},
                                                    {"num_attention_heads", kMaxHeads}};
  for (const auto& [key, most] : limits) {
    Json json = With(With(Llama(), "head_dim", 4), key, most);
    EXPECT_THAT(Read(json), IsOk()) << key;
    EXPECT_THAT(Read(With(json, key, most + 1)), Refused(key, "is not within"));
    EXPECT_THAT(Read(With(json, key, 0)), Refused(key, "is not within"));
    EXPECT_THAT(Read(With(json, key, "8")), Refused(key, "is not a whole number"));
    EXPECT_THAT(Read(With(json, key, nullptr)), Refused(key, "is missing"));
  }
  EXPECT_THAT(Read(With(Llama(), "head_dim", kMaxHeadDim)), IsOk());
  EXPECT_THAT(Read(With(Llama(), "head_dim", kMaxHeadDim + 2)), Refused("head_dim", "is not within"));
  EXPECT_THAT(Read(With(Llama(), "head_dim", 3)), Refused("head_dim", "odd"));
  EXPECT_THAT(Read(With(Llama(), "num_key_value_heads", 0)), Refused("num_key_value_heads", "is not within"));
  EXPECT_THAT(Read(With(With(Llama(), "num_attention_heads", 3), "num_key_value_heads", 2)),
              Refused("num_key_value_heads", "does not divide"));
  EXPECT_THAT(Read(With(Llama(), "num_attention_heads", 3)), Refused("num_attention_heads", "does not divide"));
  EXPECT_THAT(Read(With(Llama(), "hidden_size", 2)), Refused("num_attention_heads", "does not divide"));
}

TEST(ConfigHf, Row51_WhatWouldChangeTheAnswerIsRefused) {
  const std::pair<const char*, Json> keys[] = {{"model_type", "mamba"},
                                               {"hidden_act", "relu"},
                                               {"attention_bias", true},
                                               {"mlp_bias", true},
                                               {"use_sliding_window", true},
                                               {"partial_rotary_factor", 0.5},
                                               {"num_experts", 8},
                                               {"quantization_config", Json::object()},
                                               {"rms_norm_eps", 2},
                                               {"rope_theta", 0},
                                               {"rope_theta", "x"},
                                               {"rope_scaling", 3},
                                               {"rope_parameters", Json::array()},
                                               {"tie_word_embeddings", 1},
                                               {"layer_types", {"full_attention"}},
                                               {"layer_types", "full_attention"}};
  for (const auto& [key, value] : keys) EXPECT_THAT(Read(With(Llama(), key, value)), Refused(key, "")) << value;
  EXPECT_THAT(Read(With(Llama(), "rope_scaling", {{"type", "yarn"}})), Refused("rope_scaling.rope_type", "\"yarn\""));
  EXPECT_THAT(Read(With(Llama(), "layer_types", {"full_attention", "sliding_attention"})),
              Refused("layer_types[1]", "is not \"full_attention\""));
  EXPECT_THAT(Read(With(Gemma(), "layer_types", {"sliding_attention", "sliding_attention"})), IsOk());
  EXPECT_THAT(Read(With(Gemma(), "rope_scaling", {{"rope_type", "llama3"}})),
              Refused("rope_scaling.rope_type", "llama3"));
  EXPECT_THAT(Read(With(Gemma(), "sliding_window", nullptr)), Refused("sliding_window", "is missing"));
}

TEST(ConfigHf, AWindowThatHidesSomethingIsRefused) {
  const Json mistral = With(Llama(), "model_type", "mistral");
  EXPECT_THAT(Read(With(mistral, "sliding_window", 64)), IsOk());
  EXPECT_THAT(Read(With(mistral, "sliding_window", 63)), Refused("sliding_window", "is not supported"));
  EXPECT_THAT(Read(With(With(Llama(), "model_type", "qwen2"), "sliding_window", 63)), IsOk());  // off
}

}  // namespace
}  // namespace nibble::engine
