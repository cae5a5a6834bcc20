#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/merge.h"
#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/token_matcher.h"
#include "engine/tokenizer/utf8.h"
#include "engine/tokenizer/word_cache.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// The alphabet of byte-level BPE: printable Latin-1 bytes spell themselves, the others take code points from 256 on.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      characters_[byte] = printable ? static_cast<char32_t>(byte) : next++;
      bytes_[characters_[byte]] = static_cast<uint8_t>(byte);
    }
  }

  std::string Spell(uint8_t byte) const {
    std::string text;
    AppendCharacter(characters_[byte], text);
    return text;
  }

  // The bytes that `token` spells; a token with a character outside the alphabet stands for itself.
  std::string Read(std::string_view token) const {
    std::string bytes;
    for (std::string_view rest = token; !rest.empty();) {
      const size_t length = CharacterLength(rest);
      const auto byte = length > 0 ? bytes_.find(DecodeCharacter(rest)) : bytes_.end();
      if (byte == bytes_.end()) return std::string(token);
      bytes.push_back(static_cast<char>(byte->second));
      rest.remove_prefix(length);
    }
    return bytes;
  }

 private:
  std::array<char32_t, 256> characters_;
  absl::flat_hash_map<char32_t, uint8_t> bytes_;
};

const ByteAlphabet& Alphabet() {
  static const auto& alphabet = *new ByteAlphabet;
  return alphabet;
}

class ByteLevelBpe : public TextEncoder {
 public:
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Create(const TokenizerData& data) {
    std::unique_ptr<ByteLevelBpe> encoder(new ByteLevelBpe(data));
    NIBBLE_ASSIGN_OR_RETURN(encoder->pre_tokenizer_, PreTokenizer::Create(data.pre));
    const TokenIds token_ids = encoder->IndexTokens();
    const auto id_of = [&token_ids](std::string_view token) {
      const auto found = token_ids.find(token);
      return found == token_ids.end() ? -1 : found->second;
    };
    NIBBLE_ASSIGN_OR_RETURN(encoder->merges_, MergeTable::Create(data.merges, id_of));
    if (encoder->pre_tokenizer_->whole_words_first()) encoder->IndexWords(token_ids);
    return encoder;
  }

  void Append(std::string_view text, std::vector<int32_t>& ids) const override {
    Pass pass;
    for (size_t position = 0; position < text.size();) {
      const TokenMatcher::Match match = user_defined_.Find(text, position);
      pre_tokenizer_->Split(text.substr(position, match.begin - position),
                            [&](std::string_view word) { AppendWord(word, pass, ids); });
      if (match.id >= 0) ids.push_back(match.id);
      position = match.end;
    }
  }

  std::string Bytes(int32_t id) const override {
    const std::string& token = data_.tokens[static_cast<size_t>(id)];
    return TypeOf(data_, id) == TokenType::kUserDefined ? token : Alphabet().Read(token);
  }

 private:
  using TokenIds = absl::flat_hash_map<std::string_view, int32_t>;

  // What one call of Append keeps between words.
  struct Pass {
    WordCache cache;
    std::vector<Symbol> symbols;
    std::vector<Merge> scratch;
  };

  explicit ByteLevelBpe(const TokenizerData& data) : data_(data) {}

  TokenIds IndexTokens() {
    TokenIds token_ids;
    token_ids.reserve(data_.tokens.size());
    for (size_t i = 0; i < data_.tokens.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const TokenType type = TypeOf(data_, id);
      if (type == TokenType::kUserDefined) user_defined_.Add(data_.tokens[i], id);
      if (type != TokenType::kControl && type != TokenType::kUnknown) token_ids.try_emplace(data_.tokens[i], id);
    }
    for (int byte = 0; byte < 256; ++byte) {
      const auto token = token_ids.find(Alphabet().Spell(static_cast<uint8_t>(byte)));
      byte_ids_[byte] = token == token_ids.end() ? -1 : token->second;
    }
    return token_ids;
  }

  void IndexWords(const TokenIds& token_ids) {
    for (const auto& [token, id] : token_ids) {
      if (TypeOf(data_, id) == TokenType::kNormal) words_.try_emplace(Alphabet().Read(token), id);
    }
  }

  void AppendWord(std::string_view word, Pass& pass, std::vector<int32_t>& ids) const {
    for (; !word.empty(); word.remove_prefix(std::min(word.size(), kMaxWordBytes))) {
      pass.cache.Append(word.substr(0, kMaxWordBytes), ids,
                        [&](std::string_view text, std::vector<int32_t>& out) { EncodeWord(text, pass, out); });
    }
  }

  void EncodeWord(std::string_view word, Pass& pass, std::vector<int32_t>& ids) const {
    if (const auto whole = words_.find(absl::string_view(word.data(), word.size())); whole != words_.end()) {
      ids.push_back(whole->second);
      return;
    }
    pass.symbols.clear();
    for (size_t i = 0; i < word.size(); ++i) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(word[i])];
      if (id >= 0) pass.symbols.push_back({id, static_cast<uint32_t>(i), 1});
    }
    MergeSymbols(pass.symbols, pass.scratch,
                 [this](const Symbol& left, const Symbol& right) { return merges_.Find(left.id, right.id); });
    for (const Symbol& symbol : pass.symbols) ids.push_back(symbol.id);
  }

  const TokenizerData& data_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  TokenMatcher user_defined_;
  std::array<int32_t, 256> byte_ids_;  // -1: the vocabulary lacks this byte
  MergeTable merges_;
  absl::flat_hash_map<std::string, int32_t> words_;  // bytes of whole tokens; filled only where they come first
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeByteLevelBpe(const TokenizerData& data) {
  return ByteLevelBpe::Create(data);
}

}  // namespace nibble::engine
