#include "engine/weights/tokenizer_gguf.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/gguf_value.h"
#include "engine/weights/vocabulary.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

using TokenSet = absl::flat_hash_set<absl::string_view>;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::StatusOr<const GgufValue*> Required(const GgufFile& file, std::string_view key) {
  const GgufValue* value = file.Find(key);
  if (value == nullptr) return FormatError("key " + Quoted(key), GgufFile::metadata_offset(), "is missing");
  return value;
}

absl::Status ElementError(const GgufValue& value, size_t index, std::string_view what) {
  return ValueError(value, "element " + std::to_string(index) + " " + std::string(what));
}

absl::Status ReadStyle(const GgufFile& file, TokenizerData* data) {
  NIBBLE_ASSIGN_OR_RETURN(const GgufValue* value, Required(file, "tokenizer.ggml.model"));
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view model, AsString(*value));
  if (model != "gpt2" && model != "llama") {
    return ValueError(*value, Quoted(model) + " is not supported; known are \"gpt2\" and \"llama\"");
  }
  data->style = model == "gpt2" ? TokenizerData::Style::kByteLevelBpe : TokenizerData::Style::kSentencePiece;
  return absl::OkStatus();
}

absl::Status ReadTokens(const GgufFile& file, int64_t vocab_size, TokenizerData* data) {
  NIBBLE_ASSIGN_OR_RETURN(const GgufValue* value, Required(file, "tokenizer.ggml.tokens"));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string_view> tokens, AsStrings(*value));
  if (tokens.size() != static_cast<uint64_t>(vocab_size)) {
    return ValueError(*value, "has " + std::to_string(tokens.size()) + " tokens, the embedding " +
                                  std::to_string(vocab_size) + " rows");
  }
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].size() > kMaxTokenBytes) {
      return ElementError(*value, id, "is longer than " + std::to_string(kMaxTokenBytes) + " bytes");
    }
  }
  data->tokens.assign(tokens.begin(), tokens.end());
  return absl::OkStatus();
}

absl::Status CheckSize(const GgufValue& value, size_t size, const TokenizerData& data) {
  if (size == data.tokens.size()) return absl::OkStatus();
  return ValueError(value,
                    "has " + std::to_string(size) + " elements for " + std::to_string(data.tokens.size()) + " tokens");
}

absl::Status ReadTypes(const GgufFile& file, TokenizerData* data) {
  const GgufValue* value = file.Find("tokenizer.ggml.token_type");
  if (value == nullptr) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<int32_t> types, AsInts(*value));
  NIBBLE_RETURN_IF_ERROR(CheckSize(*value, types.size(), *data));
  for (size_t id = 0; id < types.size(); ++id) {
    const auto type = static_cast<TokenType>(types[id]);
    if (types[id] < 1 || types[id] > 6) {
      return ElementError(*value, id, "is " + std::to_string(types[id]) + ", no token type");
    }
    if (type == TokenType::kByte && !IsByteToken(data->tokens[id])) {
      return ElementError(*value, id, "says byte, but the token is " + Quoted(data->tokens[id]));
    }
    data->types.push_back(type);
  }
  return absl::OkStatus();
}

absl::Status ReadScores(const GgufFile& file, TokenizerData* data) {
  if (data->style != TokenizerData::Style::kSentencePiece) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const GgufValue* value, Required(file, "tokenizer.ggml.scores"));
  NIBBLE_ASSIGN_OR_RETURN(data->scores, AsFloats(*value));
  return CheckSize(*value, data->scores.size(), *data);
}

absl::Status CheckMerge(const GgufValue& value, size_t index, std::string_view merge, const TokenSet& tokens) {
  const size_t space = merge.find(' ', 1);
  if (space == std::string_view::npos) return ElementError(value, index, "is not two tokens with a space between");
  const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
  for (const std::string& token : {std::string(left), std::string(right), std::string(left) + std::string(right)}) {
    if (!tokens.contains(token)) return ElementError(value, index, "is of a token not in the vocabulary");
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const GgufFile& file, TokenizerData* data) {
  if (data->style != TokenizerData::Style::kByteLevelBpe) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const GgufValue* value, Required(file, "tokenizer.ggml.merges"));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string_view> merges, AsStrings(*value));
  TokenSet tokens;
  tokens.reserve(data->tokens.size());
  for (const std::string& token : data->tokens) tokens.insert(View(token));
  for (size_t i = 0; i < merges.size(); ++i) NIBBLE_RETURN_IF_ERROR(CheckMerge(*value, i, merges[i], tokens));
  data->merges.assign(merges.begin(), merges.end());
  return absl::OkStatus();
}

struct SpecialId {
  std::string_view key;
  int32_t TokenizerData::*id;
};

constexpr SpecialId kSpecialIds[] = {
    {"tokenizer.ggml.bos_token_id", &TokenizerData::bos},
    {"tokenizer.ggml.eos_token_id", &TokenizerData::eos},
    {"tokenizer.ggml.eot_token_id", &TokenizerData::eot},
    {"tokenizer.ggml.unknown_token_id", &TokenizerData::unknown},
    {"tokenizer.ggml.padding_token_id", &TokenizerData::pad},
};

// Every id is proven, also of the kinds that are not used.
absl::Status ReadSpecialIds(const GgufFile& file, TokenizerData* data) {
  for (const GgufValue& value : file.metadata()) {
    if (!value.key.starts_with("tokenizer.ggml.") || !value.key.ends_with("_token_id")) continue;
    NIBBLE_ASSIGN_OR_RETURN(const uint64_t id, AsUnsigned(value));
    if (id >= data->tokens.size()) {
      return ValueError(value,
                        std::to_string(id) + " is outside the vocabulary of " + std::to_string(data->tokens.size()));
    }
    for (const SpecialId& special : kSpecialIds) {
      if (special.key == value.key) data->*special.id = static_cast<int32_t>(id);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadFlag(const GgufFile& file, std::string_view key, bool* flag) {
  const GgufValue* value = file.Find(key);
  if (value == nullptr) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(*flag, AsBool(*value));
  return absl::OkStatus();
}

absl::Status ReadEnds(const GgufFile& file, TokenizerData* data) {
  const bool sentence_piece = data->style == TokenizerData::Style::kSentencePiece;
  data->add_space_prefix = sentence_piece;
  data->add_bos = data->bos >= 0 && (sentence_piece || data->pre == "llama-bpe");
  NIBBLE_RETURN_IF_ERROR(ReadFlag(file, "tokenizer.ggml.add_space_prefix", &data->add_space_prefix));
  NIBBLE_RETURN_IF_ERROR(ReadFlag(file, "tokenizer.ggml.add_bos_token", &data->add_bos));
  NIBBLE_RETURN_IF_ERROR(ReadFlag(file, "tokenizer.ggml.add_eos_token", &data->add_eos));
  if (data->add_bos && data->bos < 0) return ValueError(*file.Find("tokenizer.ggml.add_bos_token"), "but no bos id");
  if (data->add_eos && data->eos < 0) return ValueError(*file.Find("tokenizer.ggml.add_eos_token"), "but no eos id");
  return absl::OkStatus();
}

absl::Status ReadText(const GgufFile& file, std::string_view key, uint64_t max_bytes, std::string* text) {
  const GgufValue* value = file.Find(key);
  if (value == nullptr) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view view, AsString(*value));
  if (view.size() > max_bytes) return ValueError(*value, "is longer than " + std::to_string(max_bytes) + " bytes");
  *text = view;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerData> TokenizerFromGguf(const GgufFile& file, int64_t vocab_size) {
  TokenizerData data;
  NIBBLE_RETURN_IF_ERROR(ReadStyle(file, &data));
  NIBBLE_RETURN_IF_ERROR(ReadText(file, "tokenizer.ggml.pre", kGgufMaxNameBytes, &data.pre));
  NIBBLE_RETURN_IF_ERROR(ReadText(file, "tokenizer.chat_template", kMaxChatTemplateBytes, &data.chat_template));
  NIBBLE_RETURN_IF_ERROR(ReadTokens(file, vocab_size, &data));
  NIBBLE_RETURN_IF_ERROR(ReadTypes(file, &data));
  NIBBLE_RETURN_IF_ERROR(ReadScores(file, &data));
  NIBBLE_RETURN_IF_ERROR(ReadMerges(file, &data));
  NIBBLE_RETURN_IF_ERROR(ReadSpecialIds(file, &data));
  NIBBLE_RETURN_IF_ERROR(ReadEnds(file, &data));
  return data;
}

}  // namespace nibble::engine
