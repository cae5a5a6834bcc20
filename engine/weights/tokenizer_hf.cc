#include "engine/weights/tokenizer_hf.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/tokenizer_steps_hf.h"
#include "engine/weights/vocabulary.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

using TokenIds = absl::flat_hash_map<std::string, int32_t>;

std::string IdError(int64_t id, int64_t vocab_size) {
  return "has the id " + std::to_string(id) + ", not one below " + std::to_string(vocab_size);
}

class Reader {
 public:
  Reader(const HfTokenizerFiles& files, int64_t vocab_size)
      : files_(files), model_(files.tokenizer["model"]), vocab_size_(vocab_size) {}

  absl::StatusOr<TokenizerData> Read() && {
    NIBBLE_RETURN_IF_ERROR(ReadStyle());
    NIBBLE_RETURN_IF_ERROR(CheckModel());
    NIBBLE_RETURN_IF_ERROR(ReadVocabulary());
    NIBBLE_RETURN_IF_ERROR(ReadAddedTokens());
    NIBBLE_RETURN_IF_ERROR(ReadMerges());
    FillGaps();
    NIBBLE_RETURN_IF_ERROR(ReadSpecialTokens());
    NIBBLE_RETURN_IF_ERROR(ReadEndIds());
    NIBBLE_RETURN_IF_ERROR(ReadAdded());
    NIBBLE_RETURN_IF_ERROR(ReadChatTemplate());
    return std::move(data_);
  }

 private:
  absl::Status ReadStyle() {
    NIBBLE_ASSIGN_OR_RETURN(const HfTextSteps steps, ReadTextSteps(files_.tokenizer));
    data_.style = steps.style;
    data_.pre = steps.pre;
    data_.add_space_prefix = steps.add_space_prefix;
    return absl::OkStatus();
  }

  bool sentence_piece() const { return data_.style == TokenizerData::Style::kSentencePiece; }

  absl::Status ExpectBool(std::string_view key, bool wanted) const {
    bool value = false;
    NIBBLE_RETURN_IF_ERROR(model_[key].ReadBool(&value));
    return value == wanted ? absl::OkStatus() : model_[key].Error(value ? "true is not supported" : "is not true");
  }

  absl::Status CheckModel() const {
    NIBBLE_RETURN_IF_ERROR(model_.Require());
    NIBBLE_RETURN_IF_ERROR(model_.CheckObject());
    std::string type = "BPE";
    NIBBLE_RETURN_IF_ERROR(model_["type"].ReadText(kMaxTokenBytes, &type));
    if (type != "BPE") return model_["type"].Error(Quoted(type) + " is not supported; known is \"BPE\"");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      std::string affix;
      NIBBLE_RETURN_IF_ERROR(model_[key].ReadText(kMaxTokenBytes, &affix));
      if (!affix.empty()) return model_[key].Error("is not supported");
    }
    double dropout = 0;
    NIBBLE_RETURN_IF_ERROR(model_["dropout"].ReadNumber(0, 0, &dropout));
    NIBBLE_RETURN_IF_ERROR(ExpectBool("byte_fallback", sentence_piece()));
    return ExpectBool("ignore_merges", data_.pre == "llama-bpe");
  }

  absl::Status AddToken(const JsonValue& at, const std::string& token, int64_t id, TokenType type) {
    if (token.size() > kMaxTokenBytes) {
      return at.Error(Quoted(token) + " is longer than " + std::to_string(kMaxTokenBytes) + " bytes");
    }
    const auto [entry, is_new] = ids_.try_emplace(token, static_cast<int32_t>(id));
    if (!is_new && entry->second != id) return at.Error(Quoted(token) + " has two ids");
    const auto index = static_cast<size_t>(id);
    if (has_token_[index] && is_new) return at.Error(Quoted(token) + " has an id that another token has");
    has_token_[index] = true;
    data_.tokens[index] = token;
    data_.types[index] = type;
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary() {
    data_.tokens.resize(static_cast<size_t>(vocab_size_));
    data_.types.resize(static_cast<size_t>(vocab_size_), TokenType::kUnused);
    has_token_.resize(static_cast<size_t>(vocab_size_));
    const JsonValue vocabulary = model_["vocab"];
    NIBBLE_RETURN_IF_ERROR(vocabulary.Require());
    NIBBLE_RETURN_IF_ERROR(vocabulary.CheckObject());
    for (const auto& [token, value] : vocabulary.json().items()) {
      int64_t id = -1;
      if (value.is_number_unsigned()) id = static_cast<int64_t>(value.get<uint64_t>() & INT64_MAX);
      if (id < 0 || id >= vocab_size_) return vocabulary.Error(Quoted(token) + " " + IdError(id, vocab_size_));
      const bool is_byte = sentence_piece() && IsByteToken(token);
      NIBBLE_RETURN_IF_ERROR(AddToken(vocabulary, token, id, is_byte ? TokenType::kByte : TokenType::kNormal));
    }
    return absl::OkStatus();
  }

  // Found in text before anything else: special ones are control tokens, the others stand for themselves.
  absl::Status ReadAddedTokens() {
    const JsonValue tokens = files_.tokenizer["added_tokens"];
    NIBBLE_RETURN_IF_ERROR(tokens.CheckArray());
    for (size_t i = 0; i < tokens.size(); ++i) NIBBLE_RETURN_IF_ERROR(ReadAddedToken(tokens.At(i)));
    return absl::OkStatus();
  }

  absl::Status ReadAddedToken(const JsonValue& token) {
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      bool value = false;
      NIBBLE_RETURN_IF_ERROR(token[key].ReadBool(&value));
      if (value) return token[key].Error("true is not supported");
    }
    std::string content;
    int64_t id = 0;
    bool special = false;
    NIBBLE_RETURN_IF_ERROR(token["content"].Require());
    NIBBLE_RETURN_IF_ERROR(token["content"].ReadText(kMaxTokenBytes, &content));
    if (content.empty()) return token["content"].Error("is empty");
    NIBBLE_RETURN_IF_ERROR(token["id"].Require());
    NIBBLE_RETURN_IF_ERROR(token["id"].ReadInt(0, vocab_size_ - 1, &id));
    NIBBLE_RETURN_IF_ERROR(token["special"].ReadBool(&special));
    return AddToken(token, content, id, special ? TokenType::kControl : TokenType::kUserDefined);
  }

  // A merge is "left right", or ["left", "right"].
  absl::Status ReadMerges() {
    const JsonValue merges = model_["merges"];
    NIBBLE_RETURN_IF_ERROR(merges.Require());
    NIBBLE_RETURN_IF_ERROR(merges.CheckArray());
    data_.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) NIBBLE_RETURN_IF_ERROR(ReadMerge(merges, i));
    return absl::OkStatus();
  }

  absl::Status ReadMerge(const JsonValue& merges, size_t index) {
    const nlohmann::json& merge = merges.json()[index];
    std::string text;
    if (merge.is_string()) {
      text = merge.get_ref<const std::string&>();
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      text = merge[0].get_ref<const std::string&>() + " " + merge[1].get_ref<const std::string&>();
    }
    const size_t space = text.find(' ', 1);
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      return merges.At(index).Error("is not two tokens without spaces");
    }
    const std::string left = text.substr(0, space), right = text.substr(space + 1);
    for (const std::string& token : {left, right, left + right}) {
      if (!ids_.contains(token)) return merges.At(index).Error("is of a token not in the vocabulary");
    }
    data_.merges.push_back(std::move(text));
    return absl::OkStatus();
  }

  // Rows of the embedding that no token has: padding to a round number of rows. Named as converters to GGUF name them.
  void FillGaps() {
    for (size_t id = 0; id < data_.tokens.size(); ++id) {
      if (!has_token_[id]) data_.tokens[id] = "[PAD" + std::to_string(id) + "]";
    }
  }

  absl::StatusOr<int32_t> IdOf(const JsonValue& at, const std::string& token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) return at.Error(Quoted(token) + " is not in the vocabulary");
    return found->second;
  }

  // tokenizer_config.json names it, as text or as an object with `content`; else config.json may have its id, or the
  // first of its ids.
  absl::Status ReadSpecialToken(const std::string& name, int32_t* id) const {
    const JsonValue named = files_.tokenizer_config[name + "_token"];
    const bool is_object = named.present() && named.json().is_object();
    const JsonValue text = is_object ? named["content"] : named;
    if (text.present()) {
      std::string token;
      NIBBLE_RETURN_IF_ERROR(text.ReadText(kMaxTokenBytes, &token));
      NIBBLE_ASSIGN_OR_RETURN(*id, IdOf(text, token));
      return absl::OkStatus();
    }
    JsonValue value = files_.config[name + "_token_id"];
    if (value.present() && value.json().is_array() && value.size() > 0) value = value.At(0);
    int64_t number = -1;
    NIBBLE_RETURN_IF_ERROR(value.ReadInt(0, vocab_size_ - 1, &number));
    *id = static_cast<int32_t>(number);
    return absl::OkStatus();
  }

  absl::Status ReadSpecialTokens() {
    NIBBLE_RETURN_IF_ERROR(ReadSpecialToken("bos", &data_.bos));
    NIBBLE_RETURN_IF_ERROR(ReadSpecialToken("eos", &data_.eos));
    NIBBLE_RETURN_IF_ERROR(ReadSpecialToken("pad", &data_.pad));
    NIBBLE_RETURN_IF_ERROR(ReadSpecialToken("unk", &data_.unknown));
    std::string unknown;
    NIBBLE_RETURN_IF_ERROR(model_["unk_token"].ReadText(kMaxTokenBytes, &unknown));
    if (unknown.empty()) return absl::OkStatus();
    NIBBLE_ASSIGN_OR_RETURN(data_.unknown, IdOf(model_["unk_token"], unknown));
    data_.types[static_cast<size_t>(data_.unknown)] = TokenType::kUnknown;
    return absl::OkStatus();
  }

  // One id or a list of them.
  absl::Status ReadEndIds() {
    const JsonValue generation = files_.generation_config["eos_token_id"];
    const JsonValue ids = generation.present() ? generation : files_.config["eos_token_id"];
    const bool is_list = ids.present() && ids.json().is_array();
    for (size_t i = 0; i < ids.size(); ++i) {
      int64_t id = 0;
      NIBBLE_RETURN_IF_ERROR((is_list ? ids.At(i) : ids).ReadInt(0, vocab_size_ - 1, &id));
      data_.end_ids.push_back(static_cast<int32_t>(id));
    }
    return absl::OkStatus();
  }

  // Whether bos and eos are put at the ends: tokenizer_config.json decides where it says so, else the post-processor.
  absl::Status ReadAdded() {
    NIBBLE_ASSIGN_OR_RETURN(const HfEnds ends, ReadEnds(files_.tokenizer));
    NIBBLE_RETURN_IF_ERROR(ReadAddedEnd("bos", ends.first, &data_.bos, &data_.add_bos));
    return ReadAddedEnd("eos", ends.last, &data_.eos, &data_.add_eos);
  }

  absl::Status ReadAddedEnd(const std::string& name, const std::string& token, int32_t* id, bool* add) const {
    if (!token.empty()) {
      const JsonValue at = files_.tokenizer["post_processor"];
      NIBBLE_ASSIGN_OR_RETURN(const int32_t added, IdOf(at, token));
      if (*id < 0) *id = added;
      if (*id != added) return at.Error("adds " + Quoted(token) + ", which is not the " + name + " token");
    }
    *add = !token.empty();
    const JsonValue flag = files_.tokenizer_config["add_" + name + "_token"];
    NIBBLE_RETURN_IF_ERROR(flag.ReadBool(add));
    return *add && *id < 0 ? flag.Error("but no " + name + " token") : absl::OkStatus();
  }

  // One template, or a list of named ones: then the default.
  absl::Status ReadChatTemplate() {
    const JsonValue value = files_.tokenizer_config["chat_template"];
    if (!value.present() || !value.json().is_array()) {
      return value.ReadText(kMaxChatTemplateBytes, &data_.chat_template);
    }
    for (size_t i = 0; i < value.size(); ++i) {
      std::string name;
      NIBBLE_RETURN_IF_ERROR(value.At(i)["name"].ReadText(kMaxTokenBytes, &name));
      if (name != "default") continue;
      return value.At(i)["template"].ReadText(kMaxChatTemplateBytes, &data_.chat_template);
    }
    return absl::OkStatus();
  }

  const HfTokenizerFiles& files_;
  const JsonValue model_;
  const int64_t vocab_size_;
  TokenizerData data_;
  TokenIds ids_;
  std::vector<bool> has_token_;  // by id
};

}  // namespace

absl::StatusOr<TokenizerData> TokenizerFromHf(const HfTokenizerFiles& files, int64_t vocab_size) {
  return Reader(files, vocab_size).Read();
}

}  // namespace nibble::engine
