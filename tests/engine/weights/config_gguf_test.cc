// Rows 51 and 54 of the robustness table: keys and tensors of a model against each other.
#include "engine/weights/config_gguf.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/base/status_macros.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kArchitectures[] = {"llama", "qwen2", "qwen3", "gemma3"};

absl::StatusOr<ModelConfig> Config(const GgufBuilder& file) {
  const std::string bytes = file.Build();
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile parsed, GgufFile::Parse(AsBytes(bytes)));
  return ConfigFromGguf(parsed);
}

void ExpectRefused(const GgufBuilder& file, const std::string& field, const std::string& what) {
  EXPECT_THAT(Config(file),
              StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(field), ContainsRegex("at byte [0-9]+: "),
                                                                    HasSubstr(what), Not(HasSubstr("\n")))));
}

TEST(ConfigGguf, EveryArchitecture) {
  for (const std::string architecture : kArchitectures) {
    const auto config = Config(TinyGguf(architecture));
    ASSERT_THAT(config, IsOk());
    EXPECT_EQ(config->architecture, architecture);
    EXPECT_EQ(config->name, "tiny");
    EXPECT_EQ(config->context_length, 64);
    EXPECT_EQ(config->vocab_size, 6);
    EXPECT_EQ(config->hidden_size, 8);
    EXPECT_EQ(config->intermediate_size, 12);
    EXPECT_EQ(config->num_layers, 2);
    EXPECT_EQ(config->num_heads, 2);
    EXPECT_EQ(config->num_kv_heads, 1);
    EXPECT_EQ(config->head_dim, 4);
    EXPECT_EQ(config->rope_dims, 4);
    EXPECT_EQ(config->rope_base, 1e6f);
    EXPECT_EQ(config->rms_epsilon, 1e-5f);
    EXPECT_EQ(config->attention_scale, 0.5f);
    EXPECT_TRUE(config->tied_embeddings);
    EXPECT_EQ(config->rope_interleaved, architecture == "llama");
    EXPECT_EQ(config->sliding_window, architecture == "gemma3" ? 16 : 0);
    EXPECT_EQ(config->sliding_pattern, architecture == "gemma3" ? 6 : 0);
    EXPECT_TRUE(config->rope_factors.empty());
  }
}

TEST(ConfigGguf, WhatAFileMayLeaveOut) {
  GgufBuilder file = TinyGguf("llama");
  file.Remove("general.name").Remove("llama.rope.freq_base").Remove("llama.attention.head_count_kv");
  file.Set("llama.attention.head_count", uint32_t{1});
  file.RemoveTensor("blk.0.attn_k.weight").RemoveTensor("blk.1.attn_k.weight");
  file.RemoveTensor("blk.0.attn_v.weight").RemoveTensor("blk.1.attn_v.weight");
  for (const char* name :
       {"blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"}) {
    file.AddF32(name, {8, 8}, std::vector<float>(64));
  }
  const auto config = Config(file);
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->name, "");
  EXPECT_EQ(config->rope_base, 10000.0f);
  EXPECT_EQ(config->num_kv_heads, 1);
  EXPECT_EQ(config->head_dim, 8);
}

TEST(ConfigGguf, WhatAFileMayAdd) {
  GgufBuilder file = TinyGguf("gemma3");
  file.Set("gemma3.rope.scaling.type", "linear").Set("gemma3.rope.scaling.factor", 8.0f);
  file.Set("gemma3.rope.freq_base_swa", 5000.0f).Set("gemma3.attention.sliding_window_pattern", uint32_t{2});
  file.Set("gemma3.final_logit_softcapping", 30.0f).Set("gemma3.attn_logit_softcapping", 50.0f);
  file.Set("gemma3.attention.scale", 0.25f).Set("gemma3.vocab_size", uint32_t{6});
  file.Set("gemma3.attention.key_length", uint32_t{4}).Set("gemma3.attention.value_length", uint32_t{4});
  file.Set("gemma3.rope.dimension_count", uint32_t{2}).Set("gemma3.expert_count", uint32_t{0});
  file.AddF32("output.weight", {6, 8}, std::vector<float>(48)).AddF32("vision.extra", {3}, std::vector<float>(3));
  const auto config = Config(file);
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ(config->rope_linear_factor, 8.0f);
  EXPECT_EQ(config->rope_base_local, 5000.0f);
  EXPECT_EQ(config->sliding_pattern, 2);
  EXPECT_EQ(config->final_logit_softcap, 30.0f);
  EXPECT_EQ(config->attention_logit_softcap, 50.0f);
  EXPECT_EQ(config->attention_scale, 0.25f);
  EXPECT_EQ(config->rope_dims, 2);
  EXPECT_FALSE(config->tied_embeddings);
}

TEST(ConfigGguf, RopeFactorsOfLlama31) {
  GgufBuilder file = TinyGguf("llama");
  file.Set("llama.rope.scaling.type", "none").AddF32("rope_freqs.weight", {2}, std::vector<float>{1, 32});
  auto config = Config(file);
  ASSERT_THAT(config, IsOk());
  EXPECT_THAT(config->rope_factors, ElementsAre(1.0f, 32.0f));
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")}) {
    file.RemoveTensor("rope_freqs.weight").AddF32("rope_freqs.weight", {2}, std::vector<float>{1, bad});
    ExpectRefused(file, "rope_freqs.weight", "is not finite and positive");
  }
}

TEST(ConfigGguf, UnknownArchitectureNamesTheKnownOnes) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("general.architecture", "mamba"), "general.architecture",
                "\"mamba\" is not supported; known are llama, qwen2, qwen3, gemma3");
  ExpectRefused(file.Set("general.architecture", uint32_t{1}), "general.architecture", "not a string");
  ExpectRefused(file.Remove("general.architecture"), "general.architecture", "is missing");
  GgufBuilder name = TinyGguf("llama");
  ExpectRefused(name.Set("general.name", true), "general.name", "not a string");
}

TEST(ConfigGguf, Row51_MissingKeysAreRefused) {
  for (const std::string architecture : kArchitectures) {
    for (const char* key : {"context_length", "embedding_length", "feed_forward_length", "block_count",
                            "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
      GgufBuilder file = TinyGguf(architecture);
      ExpectRefused(file.Remove(architecture + "." + key), "key \"" + architecture + "." + key + "\"", "is missing");
    }
  }
  for (const char* key : {"gemma3.attention.sliding_window", "gemma3.rope.freq_base"}) {
    GgufBuilder file = TinyGguf("gemma3");
    ExpectRefused(file.Remove(key), key, "is missing");
  }
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.rope.scaling.type", "linear"), "llama.rope.scaling.factor", "is missing");
}

TEST(ConfigGguf, Row51_CountsOutOfRangeAreRefused) {
  struct Limit {
    const char* key;
    int64_t max;
  };
  const Limit limits[] = {{"block_count", kMaxLayers},
                          {"attention.head_count", kMaxHeads},
                          {"attention.head_count_kv", kMaxHeads},
                          {"attention.key_length", kMaxHeadDim},
                          {"attention.value_length", kMaxHeadDim},
                          {"embedding_length", kMaxHiddenSize},
                          {"feed_forward_length", kMaxIntermediateSize},
                          {"context_length", kMaxContextLength}};
  for (const Limit& limit : limits) {
    const std::string key = "llama." + std::string(limit.key);
    for (const uint64_t bad : {uint64_t{0}, static_cast<uint64_t>(limit.max) + 1, uint64_t{0xffffffff}, ~uint64_t{0}}) {
      GgufBuilder file = TinyGguf("llama");
      ExpectRefused(file.Set(key, bad), "key \"" + key + "\"", "is not within 1 to " + std::to_string(limit.max));
    }
    // At the limit it is another check that refuses.
    GgufBuilder file = TinyGguf("llama");
    EXPECT_THAT(Config(file.Set(key, static_cast<uint64_t>(limit.max))),
                testing::AnyOf(IsOk(), StatusIs(absl::StatusCode::kFailedPrecondition, Not(HasSubstr("within")))));
    ExpectRefused(file.Set(key, std::vector<uint32_t>{2, 2}), "key \"" + key + "\"", "not an integer");
  }
}

TEST(ConfigGguf, Row51_HeadsThatDoNotDivideAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.attention.head_count", uint32_t{3}), "llama.attention.head_count", "does not divide");
  ExpectRefused(file.Set("llama.attention.head_count", uint32_t{16}), "llama.attention.head_count", "does not divide");
  file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.attention.head_count_kv", uint32_t{4}), "head_count_kv", "does not divide");
  file = TinyGguf("llama");
  file.Set("llama.embedding_length", uint32_t{4096});
  ExpectRefused(file.Set("llama.attention.head_count", uint32_t{1}), "head_count", "heads of 1 to 1024");
  file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.attention.value_length", uint32_t{8}), "value_length", "differs");
  file = TinyGguf("llama");
  file.Set("llama.attention.key_length", uint32_t{3});
  ExpectRefused(file.Set("llama.attention.value_length", uint32_t{3}), "rope.dimension_count", "is odd");
}

TEST(ConfigGguf, Row51_FloatsOutOfRangeAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.rope.freq_base", 0.0f), "llama.rope.freq_base", "is not within");
  ExpectRefused(file.Set("llama.rope.freq_base", 2e12f), "llama.rope.freq_base", "is not within");
  ExpectRefused(file.Set("llama.rope.freq_base", std::nanf("")), "llama.rope.freq_base", "not a finite");
  file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.attention.layer_norm_rms_epsilon", -1.0f), "rms_epsilon", "is not within");
  file = TinyGguf("gemma3");
  ExpectRefused(file.Set("gemma3.final_logit_softcapping", -1.0f), "final_logit_softcapping", "is not within");
  file = TinyGguf("gemma3");
  ExpectRefused(file.Set("gemma3.rope.freq_base_swa", 0.0f), "freq_base_swa", "is not within");
  file = TinyGguf("gemma3");
  ExpectRefused(file.Set("gemma3.attention.sliding_window_pattern", uint32_t{0}), "pattern", "is not within");
}

TEST(ConfigGguf, FeaturesThatWouldChangeTheAnswerAreRefused) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.rope.scaling.type", "yarn"), "rope.scaling.type",
                "\"yarn\" is not supported; known are \"none\" and \"linear\"");
  ExpectRefused(file.Set("llama.rope.scaling.type", uint32_t{1}), "rope.scaling.type", "not a string");
  file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.expert_count", uint32_t{8}), "llama.expert_count", "is not supported");
  ExpectRefused(file.Set("llama.expert_count", "8"), "llama.expert_count", "not an integer");
  file = TinyGguf("qwen2");
  ExpectRefused(file.Set("qwen2.attention.sliding_window", uint32_t{4096}), "sliding_window", "is not supported");
  file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.logit_scale", 2.0f), "llama.logit_scale", "is not supported");
  EXPECT_THAT(Config(file.Set("llama.logit_scale", 1.0)), IsOk());
  file = TinyGguf("llama");
  ExpectRefused(file.AddF32("blk.0.attn_q.bias", {8}, std::vector<float>(8)), "tensor \"blk.0.attn_q.bias\"",
                "is not known to architecture llama");
  file = TinyGguf("llama");
  ExpectRefused(file.AddF32("blk.2.attn_norm.weight", {8}, std::vector<float>(8)), "blk.2.attn_norm.weight", "known");
}

// Two heads of 2 in a width of 8: the length of a head and the width per head differ.
GgufBuilder GemmaOfNarrowHeads(int layers) {
  GgufBuilder file = TinyGguf("gemma3", layers);
  file.Set("gemma3.attention.key_length", uint32_t{2}).Set("gemma3.attention.value_length", uint32_t{2});
  const std::vector<float> zeros(32);
  for (int i = 0; i < layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    const auto replace = [&](const std::string& name, const std::vector<int64_t>& shape, size_t elements) {
      file.RemoveTensor(layer + name).AddF32(layer + name, shape, absl::MakeSpan(zeros).first(elements));
    };
    replace("attn_q.weight", {4, 8}, 32);
    replace("attn_k.weight", {2, 8}, 16);
    replace("attn_v.weight", {2, 8}, 16);
    replace("attn_output.weight", {8, 4}, 32);
    replace("attn_q_norm.weight", {2}, 2);
    replace("attn_k_norm.weight", {2}, 2);
  }
  return file;
}

TEST(ConfigGguf, Gemma27bScalesByWidth) {
  EXPECT_EQ(Config(GemmaOfNarrowHeads(61))->attention_scale, 1.0f / std::sqrt(2.0f));
  EXPECT_EQ(Config(GemmaOfNarrowHeads(62))->attention_scale, 0.5f);
}

TEST(ConfigGguf, Row54_EveryRequiredTensorIsRequired) {
  for (const std::string architecture : kArchitectures) {
    const std::string bytes = TinyGguf(architecture).Build();
    const auto parsed = GgufFile::Parse(AsBytes(bytes));
    ASSERT_THAT(parsed, IsOk());
    for (const GgufTensor& tensor : parsed->tensors()) {
      GgufBuilder file = TinyGguf(architecture);
      ExpectRefused(file.RemoveTensor(tensor.name), "tensor \"" + std::string(tensor.name) + "\"", "is missing");
    }
  }
}

TEST(ConfigGguf, Row54_EveryShapeIsChecked) {
  for (const std::string architecture : kArchitectures) {
    const std::string bytes = TinyGguf(architecture).Build();
    const auto parsed = GgufFile::Parse(AsBytes(bytes));
    ASSERT_THAT(parsed, IsOk());
    for (const GgufTensor& tensor : parsed->tensors()) {
      std::vector<int64_t> wrong = tensor.shape;
      wrong.back() += 1;  // another width
      std::vector<int64_t> rank = tensor.shape;
      rank.insert(rank.begin(), 1);  // the same elements in one dimension more
      for (const auto& shape : {wrong, rank}) {
        GgufBuilder file = TinyGguf(architecture);
        file.RemoveTensor(tensor.name).AddRaw(tensor.name, shape, 0, std::string(4 * 13 * 13, '\0'));
        ExpectRefused(file, "tensor \"", "has shape [");
      }
    }
  }
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.AddF32("output.weight", {5, 8}, std::vector<float>(40)), "tensor \"output.weight\"",
                "has shape [5, 8], not [6, 8]");
}

TEST(ConfigGguf, Row54_VocabularyThatContradictsTheEmbeddingIsRefused) {
  GgufBuilder file = TinyGguf("llama");
  ExpectRefused(file.Set("llama.vocab_size", uint32_t{7}), "llama.vocab_size", "7 is not within 6 to 6");
  file = TinyGguf("llama");
  file.RemoveTensor("token_embd.weight");
  file.AddRaw("token_embd.weight", {kMaxVocabSize + 1, 1}, 0, std::string(4 * (kMaxVocabSize + 1), '\0'));
  ExpectRefused(file, "token_embd.weight", "has more than 4194304 rows");
}

}  // namespace
}  // namespace nibble::engine
