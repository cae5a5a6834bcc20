#include "tests/engine/weights/hf_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_replace.h"
#include "engine/weights/config_gguf.h"
#include "engine/weights/tokenizer_gguf.h"
#include "gtest/gtest.h"
#include "tests/engine/weights/gguf_builder.h"

namespace nibble::engine {
namespace {

using Json = nlohmann::json;
using Names = std::map<std::string, std::string>;

// GGUF's names -> the makers', of a layer.
Names LayerNames(const std::string& architecture) {
  Names names = {{"attn_norm.weight", "input_layernorm.weight"},
                 {"attn_q.weight", "self_attn.q_proj.weight"},
                 {"attn_k.weight", "self_attn.k_proj.weight"},
                 {"attn_v.weight", "self_attn.v_proj.weight"},
                 {"attn_q.bias", "self_attn.q_proj.bias"},
                 {"attn_k.bias", "self_attn.k_proj.bias"},
                 {"attn_v.bias", "self_attn.v_proj.bias"},
                 {"attn_q_norm.weight", "self_attn.q_norm.weight"},
                 {"attn_k_norm.weight", "self_attn.k_norm.weight"},
                 {"attn_output.weight", "self_attn.o_proj.weight"},
                 {"ffn_norm.weight", "post_attention_layernorm.weight"},
                 {"ffn_gate.weight", "mlp.gate_proj.weight"},
                 {"ffn_up.weight", "mlp.up_proj.weight"},
                 {"ffn_down.weight", "mlp.down_proj.weight"}};
  if (architecture == "gemma3") {
    names["ffn_norm.weight"] = "pre_feedforward_layernorm.weight";
    names["post_attention_norm.weight"] = "post_attention_layernorm.weight";
    names["post_ffw_norm.weight"] = "post_feedforward_layernorm.weight";
  }
  return names;
}

std::string HfName(const std::string& name, const std::string& architecture) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  const size_t dot = name.find('.', 4);  // blk.N.
  return "model.layers." + name.substr(4, dot - 4) + "." + LayerNames(architecture).at(name.substr(dot + 1));
}

// From pairs that rotate together to halves: what the makers' files have where GGUF's llama files have pairs.
std::string Deinterleaved(const std::string& bytes, int64_t rows, int64_t head_dim) {
  const size_t row_bytes = bytes.size() / static_cast<size_t>(rows);
  std::string halves;
  for (int64_t head = 0; head < rows; head += head_dim) {
    for (int64_t half : {0, 1}) {
      for (int64_t i = half; i < head_dim; i += 2) {
        halves += bytes.substr(static_cast<size_t>(head + i) * row_bytes, row_bytes);
      }
    }
  }
  return halves;
}

std::vector<float> Decoded(const GgufTensor& tensor) {
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  std::vector<float> values(static_cast<size_t>(count));
  tensor.traits->decode(tensor.data.data(), absl::MakeSpan(values));
  return values;
}

std::string BytesOf(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

void AddTensor(const GgufTensor& tensor, const ModelConfig& config, HfFolder* folder) {
  const std::string name(tensor.name);
  SafetensorsType type = SafetensorsType::kF32;
  std::string bytes(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  if (tensor.traits->encoding == Encoding::kF16) {
    type = SafetensorsType::kF16;
  } else if (tensor.traits->encoding == Encoding::kBF16) {
    type = SafetensorsType::kBF16;
  } else {
    std::vector<float> values = Decoded(tensor);
    if (config.architecture == "gemma3" && name.ends_with("norm.weight")) {
      for (float& value : values) value -= 1.0f;
    }
    bytes = BytesOf(values);
  }
  const bool rotates = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
  if (config.rope_interleaved && rotates) bytes = Deinterleaved(bytes, tensor.shape[0], config.head_dim);
  folder->Add(HfName(name, config.architecture), type, tensor.shape, std::move(bytes));
}

Json ConfigFrom(const ModelConfig& config) {
  Json json = {{"model_type", config.architecture},
               {"max_position_embeddings", config.context_length},
               {"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_layers},
               {"num_attention_heads", config.num_heads},
               {"num_key_value_heads", config.num_kv_heads},
               {"head_dim", config.head_dim},
               {"hidden_act", "silu"},
               {"rms_norm_eps", config.rms_epsilon},
               {"rope_theta", config.rope_base},
               {"tie_word_embeddings", config.tied_embeddings}};
  if (config.architecture == "gemma3") {
    json["model_type"] = "gemma3_text";
    json["hidden_act"] = nullptr;
    json["hidden_activation"] = "gelu_pytorch_tanh";
    json["sliding_window"] = config.sliding_window;
    json["query_pre_attn_scalar"] = config.head_dim;
    if (config.final_logit_softcap > 0) json["final_logit_softcapping"] = config.final_logit_softcap;
    if (config.rope_linear_factor != 1.0f) {
      json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", config.rope_linear_factor}};
    }
  }
  return json;
}

Json Sequence(const std::string& list, Json steps) { return {{"type", "Sequence"}, {list, std::move(steps)}}; }

Json Split(const std::string& number) {
  return {{"type", "Split"},
          {"pattern",
           {{"Regex", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + number +
                          R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json PreTokenizer(const std::string& pre) {
  const auto byte_level = [](bool use_regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
  };
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  if (pre == "gpt-2") return byte_level(true);
  if (pre == "smollm") return Sequence("pretokenizers", {digits, byte_level(true)});
  return Sequence("pretokenizers", {Split(pre == "qwen2" ? R"(\p{N})" : R"(\p{N}{1,3})"), byte_level(false)});
}

// As the makers' files spell it: converters to GGUF put spaces into user-defined tokens.
std::string Spelled(const TokenizerData& data, size_t id) {
  const std::string& token = data.tokens[id];
  if (data.style != TokenizerData::Style::kSentencePiece) return token;
  return absl::StrReplaceAll(token, {{" ", "\u2581"}});
}

// Every way to part a piece in two others, the best piece first, of one piece the longest left part. User-defined
// pieces are the best: in the makers' files their score is 0.
std::vector<std::string> MergesFromScores(const TokenizerData& data) {
  std::map<std::string, size_t> ids;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.types[id] == TokenType::kNormal || data.types[id] == TokenType::kUserDefined) ids[Spelled(data, id)] = id;
  }
  std::vector<std::tuple<float, size_t, std::string>> merges;
  for (const auto& [piece, id] : ids) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const std::string left = piece.substr(0, cut), right = piece.substr(cut);
      const float score = data.types[id] == TokenType::kUserDefined ? 0.0f : data.scores[id];
      if (ids.contains(left) && ids.contains(right)) merges.emplace_back(score, cut, left + " " + right);
    }
  }
  std::sort(merges.begin(), merges.end(), std::greater<>());
  std::vector<std::string> lines;
  for (const auto& merge : merges) lines.push_back(std::get<2>(merge));
  return lines;
}

void AddStyle(const TokenizerData& data, Json* json) {
  Json& model = (*json)["model"];
  if (data.style == TokenizerData::Style::kByteLevelBpe) {
    (*json)["pre_tokenizer"] = PreTokenizer(data.pre);
    (*json)["post_processor"] = {{"type", "ByteLevel"}, {"trim_offsets", true}};
    model["merges"] = data.merges;
    model["ignore_merges"] = data.pre == "llama-bpe";
    return;
  }
  const Json spell = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  (*json)["normalizer"] = data.add_space_prefix ? Sequence("normalizers", {prepend, spell}) : spell;
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  for (const std::string& merge : MergesFromScores(data)) {  // in pairs, as newer files have them
    const size_t space = merge.find(' ');
    model["merges"].push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
}

Json TokenizerConfigFrom(const TokenizerData& data) {
  Json json = {{"add_bos_token", data.add_bos}, {"add_eos_token", data.add_eos}, {"chat_template", data.chat_template}};
  const std::pair<const char*, int32_t> tokens[] = {
      {"bos_token", data.bos}, {"eos_token", data.eos}, {"unk_token", data.unknown}, {"pad_token", data.pad}};
  for (const auto& [name, id] : tokens) {
    if (id >= 0) json[name] = data.tokens[static_cast<size_t>(id)];
  }
  return json;
}

}  // namespace

SafetensorsTensor& HfFolder::tensor(std::string_view name) {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [name](const SafetensorsTensor& t) { return t.name == name; });
  EXPECT_NE(found, tensors.end()) << name;
  return *found;
}

void HfFolder::Add(const std::string& name, SafetensorsType type, std::vector<int64_t> shape, std::string bytes) {
  data.push_back(std::move(bytes));
  tensors.push_back({name, type, std::move(shape), AsBytes(data.back())});
}

Json HfTokenizerFrom(const TokenizerData& data) {
  Json json = {{"version", "1.0"}, {"normalizer", nullptr}, {"added_tokens", Json::array()}};
  json["model"] = {{"type", "BPE"}, {"dropout", nullptr}, {"merges", Json::array()}, {"vocab", Json::object()}};
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const TokenType type = data.types.empty() ? TokenType::kNormal : data.types[id];
    if (type == TokenType::kUnused) continue;
    json["model"]["vocab"][Spelled(data, id)] = id;
    if (type == TokenType::kUnknown) json["model"]["unk_token"] = data.tokens[id];
    if (type == TokenType::kNormal || type == TokenType::kByte) continue;
    json["added_tokens"].push_back({{"id", id},
                                    {"content", Spelled(data, id)},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", type != TokenType::kUserDefined}});
  }
  AddStyle(data, &json);
  return json;
}

HfFolder HfFolderFrom(const GgufFile& file) {
  const auto config = ConfigFromGguf(file);
  EXPECT_TRUE(config.ok()) << config.status();
  const auto tokenizer = TokenizerFromGguf(file, config->vocab_size);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  HfFolder folder;
  folder.config = ConfigFrom(*config);
  folder.tokenizer = HfTokenizerFrom(*tokenizer);
  folder.tokenizer_config = TokenizerConfigFrom(*tokenizer);
  folder.generation_config = {{"eos_token_id", tokenizer->eos}};
  for (const GgufTensor& tensor : file.tensors()) AddTensor(tensor, *config, &folder);
  return folder;
}

WrittenFolder::WrittenFolder(const HfFolder& folder, const std::string& name, size_t shards)
    : path_(std::filesystem::path(testing::TempDir()) / (name + "_" + std::to_string(getpid()))) {
  std::filesystem::create_directory(path_);
  Write("config.json", folder.config.dump());
  Write("tokenizer.json", folder.tokenizer.dump());
  Write("tokenizer_config.json", folder.tokenizer_config.dump());
  Write("generation_config.json", folder.generation_config.dump());
  if (shards == 1) {
    Write("model.safetensors", SerializeSafetensors({{"format", "pt"}}, folder.tensors));
  } else {
    WriteShards(folder, shards);
  }
}

void WrittenFolder::WriteShards(const HfFolder& folder, size_t shards) const {
  Json map;
  for (size_t shard = 0; shard < shards; ++shard) {
    const std::string file = "model-" + std::to_string(shard) + ".safetensors";
    std::vector<SafetensorsTensor> tensors;
    for (size_t i = shard; i < folder.tensors.size(); i += shards) {
      tensors.push_back(folder.tensors[i]);
      map[folder.tensors[i].name] = file;
    }
    Write(file, SerializeSafetensors({}, tensors));
  }
  Write("model.safetensors.index.json", Json{{"metadata", {{"total_size", 0}}}, {"weight_map", map}}.dump());
}

WrittenFolder::~WrittenFolder() { std::filesystem::remove_all(path_); }

void WrittenFolder::Write(const std::string& file, const std::string& bytes) const {
  std::ofstream(path_ / file, std::ios::binary) << bytes;
}

std::string WrittenFolder::Read(const std::string& file) const {
  std::ifstream stream(path_ / file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void WrittenFolder::Remove(const std::string& file) const { std::filesystem::remove(path_ / file); }

}  // namespace nibble::engine
