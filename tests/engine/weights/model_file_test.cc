// The real models open, and say what their files say.
#include "engine/weights/model_file.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

std::string CachedModel(const std::string& name) {
  const char* cache = std::getenv("NIBBLE_CACHE");
  return cache != nullptr ? std::string(cache) + "/" + name
                          : std::string(std::getenv("HOME")) + "/.cache/nibble/" + name;
}

#define OPEN_CACHED(model, name)                                                                \
  const std::string path = CachedModel(name);                                                   \
  ASSERT_TRUE(std::filesystem::exists(path)) << path << " is missing: tests/run.sh fetches it"; \
  auto opened = OpenModelFile(path);                                                            \
  ASSERT_THAT(opened, IsOk());                                                                  \
  const ModelFile& model = *opened

TEST(RealModelFile, SmolLm2) {
  OPEN_CACHED(model, "smollm2.gguf");
  EXPECT_EQ(model.config.architecture, "llama");
  EXPECT_EQ(model.config.vocab_size, 49152);
  EXPECT_EQ(model.config.hidden_size, 576);
  EXPECT_EQ(model.config.intermediate_size, 1536);
  EXPECT_EQ(model.config.num_layers, 30);
  EXPECT_EQ(model.config.num_heads, 9);
  EXPECT_EQ(model.config.num_kv_heads, 3);
  EXPECT_EQ(model.config.head_dim, 64);
  EXPECT_EQ(model.config.rope_dims, 64);
  EXPECT_EQ(model.config.rope_base, 100000.0f);
  EXPECT_EQ(model.config.rms_epsilon, 1e-5f);
  EXPECT_EQ(model.config.attention_scale, 0.125f);
  EXPECT_EQ(model.config.context_length, 8192);
  EXPECT_TRUE(model.config.rope_interleaved);
  EXPECT_TRUE(model.config.tied_embeddings);
  EXPECT_EQ(model.tokenizer.pre, "smollm");
  EXPECT_EQ(model.tokenizer.merges.size(), 48900u);
  EXPECT_EQ(model.tokenizer.eos, 2);
  EXPECT_FALSE(model.tokenizer.add_bos);
  EXPECT_NE(model.tokenizer.chat_template.find("SmolLM"), std::string::npos);
  const Tensor* gate = model.weights->Find("blk.29.ffn_gate.weight");
  ASSERT_NE(gate, nullptr);
  EXPECT_EQ(gate->encoding, Encoding::kQ4_1);
  EXPECT_EQ(gate->rows(), 1536);
  EXPECT_EQ(gate->cols(), 576);
  EXPECT_EQ(model.weights->Find("output.weight"), nullptr);
}

TEST(RealModelFile, Qwen25Coder) {
  OPEN_CACHED(model, "qwen2.5-coder-0.5b.gguf");
  EXPECT_EQ(model.config.architecture, "qwen2");
  EXPECT_EQ(model.config.vocab_size, 151936);
  EXPECT_EQ(model.config.head_dim, 64);
  EXPECT_EQ(model.config.num_heads, 14);
  EXPECT_EQ(model.config.num_kv_heads, 2);
  EXPECT_FALSE(model.config.rope_interleaved);
  EXPECT_FALSE(model.config.tied_embeddings);
  EXPECT_EQ(model.tokenizer.pre, "qwen2");
  EXPECT_EQ(model.tokenizer.types[151935], TokenType::kUnused);
  ASSERT_NE(model.weights->Find("blk.0.attn_q.bias"), nullptr);
}

TEST(RealModelFile, Gemma3) {
  OPEN_CACHED(model, "gemma3-270m.gguf");
  EXPECT_EQ(model.config.architecture, "gemma3");
  EXPECT_EQ(model.config.vocab_size, 262144);
  EXPECT_EQ(model.config.head_dim, 256);
  EXPECT_EQ(model.config.num_kv_heads, 1);
  EXPECT_EQ(model.config.rope_base, 1e6f);
  EXPECT_EQ(model.config.rope_base_local, 1e4f);
  EXPECT_EQ(model.config.sliding_window, 512);
  EXPECT_EQ(model.config.sliding_pattern, 6);
  EXPECT_EQ(model.config.attention_scale, 0.0625f);
  EXPECT_EQ(model.config.final_logit_softcap, 0.0f);
  EXPECT_TRUE(model.config.tied_embeddings);
  EXPECT_EQ(model.tokenizer.style, TokenizerData::Style::kSentencePiece);
  EXPECT_EQ(model.tokenizer.scores.size(), 262144u);
  EXPECT_TRUE(model.tokenizer.add_bos);
  EXPECT_FALSE(model.tokenizer.add_space_prefix);
  EXPECT_EQ(model.tokenizer.bos, 2);
}

}  // namespace
}  // namespace nibble::engine
