#include "tests/engine/weights/tiny_gguf.h"

#include <random>
#include <vector>

namespace nibble::engine {
namespace {

// Written apart from the table in config_gguf.h, so that a wrong row there shows.
struct Writer {
  GgufBuilder* file;
  std::mt19937 random{11};

  void Add(const std::string& name, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (const int64_t dim : shape) elements *= dim;
    std::vector<float> values;
    for (int64_t i = 0; i < elements; ++i) values.push_back(static_cast<float>(random() % 2001) * 1e-3f - 1.0f);
    file->AddF32(name, shape, values);
  }
};

void SetConfig(std::string_view architecture, int layers, GgufBuilder* file) {
  const std::string prefix = std::string(architecture) + ".";
  file->Set("general.architecture", std::string(architecture)).Set("general.name", "tiny");
  file->Set(prefix + "context_length", uint32_t{64}).Set(prefix + "embedding_length", uint32_t{8});
  file->Set(prefix + "block_count", static_cast<uint32_t>(layers)).Set(prefix + "feed_forward_length", uint32_t{12});
  file->Set(prefix + "attention.head_count", uint32_t{2}).Set(prefix + "attention.head_count_kv", uint32_t{1});
  file->Set(prefix + "attention.layer_norm_rms_epsilon", 1e-5f).Set(prefix + "rope.freq_base", 1e6f);
  if (architecture == "gemma3") file->Set(prefix + "attention.sliding_window", uint32_t{16});
}

void SetTokenizer(std::string_view architecture, GgufBuilder* file) {
  const bool gemma = architecture == "gemma3";
  file->Set("tokenizer.ggml.model", gemma ? "llama" : "gpt2").Set("tokenizer.ggml.pre", gemma ? "default" : "smollm");
  if (gemma) {
    file->Set("tokenizer.ggml.tokens", std::vector<std::string>{"<pad>", "<eos>", "<bos>", "<0x0A>", "a", "ab"});
    file->Set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 3, 6, 1, 1});
    file->Set("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, 0, -1, -2});
  } else {
    file->Set("tokenizer.ggml.tokens", std::vector<std::string>{"<pad>", "<eos>", "<bos>", "a", "b", "ab"});
    file->Set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 3, 1, 1, 1});
    file->Set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  }
  file->Set("tokenizer.ggml.bos_token_id", uint32_t{2}).Set("tokenizer.ggml.eos_token_id", uint32_t{1});
}

void AddLayer(std::string_view architecture, const std::string& layer, Writer* writer) {
  writer->Add(layer + "attn_norm.weight", {8});
  writer->Add(layer + "attn_q.weight", {8, 8});
  writer->Add(layer + "attn_k.weight", {4, 8});
  writer->Add(layer + "attn_v.weight", {4, 8});
  writer->Add(layer + "attn_output.weight", {8, 8});
  writer->Add(layer + "ffn_norm.weight", {8});
  writer->Add(layer + "ffn_gate.weight", {12, 8});
  writer->Add(layer + "ffn_up.weight", {12, 8});
  writer->Add(layer + "ffn_down.weight", {8, 12});
  if (architecture == "qwen2") {
    writer->Add(layer + "attn_q.bias", {8});
    writer->Add(layer + "attn_k.bias", {4});
    writer->Add(layer + "attn_v.bias", {4});
  }
  if (architecture == "qwen3" || architecture == "gemma3") {
    writer->Add(layer + "attn_q_norm.weight", {4});
    writer->Add(layer + "attn_k_norm.weight", {4});
  }
  if (architecture == "gemma3") {
    writer->Add(layer + "post_attention_norm.weight", {8});
    writer->Add(layer + "post_ffw_norm.weight", {8});
  }
}

}  // namespace

GgufBuilder TinyGguf(std::string_view architecture, int layers) {
  GgufBuilder file;
  SetConfig(architecture, layers, &file);
  SetTokenizer(architecture, &file);
  Writer writer{&file};
  writer.Add("token_embd.weight", {6, 8});
  writer.Add("output_norm.weight", {8});
  for (int layer = 0; layer < layers; ++layer) AddLayer(architecture, "blk." + std::to_string(layer) + ".", &writer);
  return file;
}

}  // namespace nibble::engine
