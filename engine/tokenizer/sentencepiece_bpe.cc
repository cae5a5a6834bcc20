#include <algorithm>
#include <array>
#include <cstdio>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/merge.h"
#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/token_matcher.h"
#include "engine/tokenizer/utf8.h"
#include "engine/tokenizer/word_cache.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

std::string SpellSpaces(bool prefix, std::string_view text) {
  std::string spelled(prefix ? kSpace : "");
  spelled.reserve(text.size() + text.size() / 2);
  for (char byte : text) {
    if (byte == ' ') {
      spelled += kSpace;
    } else {
      spelled.push_back(byte);
    }
  }
  return spelled;
}

std::string ReadSpaces(std::string_view token) {
  std::string text;
  while (!token.empty()) {
    const bool space = token.substr(0, kSpace.size()) == kSpace;
    text.push_back(space ? ' ' : token[0]);
    token.remove_prefix(space ? kSpace.size() : 1);
  }
  return text;
}

// The byte of a token like "<0x0A>", or -1.
int ByteOf(std::string_view token) {
  unsigned byte = 0;
  char end = 0;
  const bool matches = token.size() == 6 && std::sscanf(std::string(token).c_str(), "<0x%2X%c", &byte, &end) == 2;
  return matches && end == '>' ? static_cast<int>(byte) : -1;
}

class SentencePieceBpe : public TextEncoder {
 public:
  static absl::StatusOr<std::unique_ptr<TextEncoder>> Create(const TokenizerData& data) {
    if (data.merges.empty() && data.scores.size() != data.tokens.size()) {
      return absl::FailedPreconditionError(
          absl::StrCat("tokenizer has ", data.tokens.size(), " tokens but ", data.scores.size(), " scores"));
    }
    std::unique_ptr<SentencePieceBpe> encoder(new SentencePieceBpe(data));
    NIBBLE_RETURN_IF_ERROR(encoder->IndexTokens());
    const auto id_of = [&encoder](std::string_view token) { return encoder->IdOf(token); };
    NIBBLE_ASSIGN_OR_RETURN(encoder->merges_, MergeTable::Create(data.merges, id_of));
    return encoder;
  }

  void Append(std::string_view text, std::vector<int32_t>& ids) const override {
    if (text.empty()) return;
    // SentencePiece finds user-defined tokens where spaces are spelled already, `tokenizers` in the text as it is.
    const bool by_rank = !merges_.empty();
    const std::string spelled = by_rank ? std::string() : SpellSpaces(data_.add_space_prefix, text);
    const std::string_view all = by_rank ? text : spelled;
    Pass pass;
    for (size_t position = 0; position < all.size();) {
      const TokenMatcher::Match match = user_defined_.Find(all, position);
      const std::string_view stretch = all.substr(position, match.begin - position);
      AppendStretch(by_rank && !stretch.empty() ? pass.Keep(SpellSpaces(data_.add_space_prefix, stretch)) : stretch,
                    pass, ids);
      if (match.id >= 0) ids.push_back(match.id);
      position = match.end;
    }
  }

  std::string Bytes(int32_t id) const override {
    const std::string& token = data_.tokens[static_cast<size_t>(id)];
    if (TypeOf(data_, id) != TokenType::kByte) return ReadSpaces(token);
    return std::string(1, static_cast<char>(ByteOf(token)));
  }

 private:
  // What one call of Append keeps between words.
  struct Pass {
    std::string_view Keep(std::string text) { return kept.emplace_back(std::move(text)); }

    std::deque<std::string> kept;  // the cache points into it
    WordCache cache;
    std::vector<Symbol> symbols;
    std::vector<Merge> scratch;
  };

  explicit SentencePieceBpe(const TokenizerData& data) : data_(data) { byte_ids_.fill(-1); }

  absl::Status IndexTokens() {
    pieces_.reserve(data_.tokens.size());
    for (size_t i = 0; i < data_.tokens.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      const std::string& token = data_.tokens[i];
      switch (TypeOf(data_, id)) {
        case TokenType::kNormal:
          pieces_.try_emplace(token, id);
          NoteInnerSpaces(token);
          break;
        case TokenType::kUserDefined:
          user_defined_.Add(data_.merges.empty() ? SpellSpaces(false, token) : token, id);
          if (data_.merges.empty()) break;
          pieces_.try_emplace(token, id);  // which merges may be of
          NoteInnerSpaces(token);
          break;
        case TokenType::kByte:
          if (ByteOf(token) < 0) return absl::FailedPreconditionError(absl::StrCat("token ", i, " is no byte token"));
          byte_ids_[ByteOf(token)] = id;
          break;
        default:
          break;
      }
    }
    return absl::OkStatus();
  }

  void NoteInnerSpaces(std::string_view token) {
    for (size_t at = token.find(kSpace, 1); at != token.npos; at = token.find(kSpace, at + 1)) {
      joins_space_[static_cast<uint8_t>(token[at - 1])] = true;
    }
  }

  // No merge crosses from a byte into a space unless some token does: so text falls into words that merge alone.
  void AppendStretch(std::string_view text, Pass& pass, std::vector<int32_t>& ids) const {
    while (!text.empty()) {
      size_t end = text.find(kSpace, 1);
      while (end != text.npos && joins_space_[static_cast<uint8_t>(text[end - 1])]) end = text.find(kSpace, end + 1);
      const std::string_view word = text.substr(0, std::min(end, kMaxWordBytes));
      pass.cache.Append(word, ids,
                        [&](std::string_view uncached, std::vector<int32_t>& out) { EncodeWord(uncached, pass, out); });
      text.remove_prefix(word.size());
    }
  }

  void EncodeWord(std::string_view word, Pass& pass, std::vector<int32_t>& ids) const {
    pass.symbols.clear();
    for (size_t i = 0; i < word.size();) {
      const size_t length = std::max<size_t>(1, CharacterLength(word.substr(i)));
      pass.symbols.push_back({IdOf(word.substr(i, length)), static_cast<uint32_t>(i), static_cast<uint32_t>(length)});
      i += length;
    }
    MergeSymbols(pass.symbols, pass.scratch, [this, word](const Symbol& left, const Symbol& right) {
      return merges_.empty() ? ByScore(word.substr(left.begin, left.length + right.length))
                             : merges_.Find(left.id, right.id);
    });
    const size_t first = ids.size();
    for (const Symbol& symbol : pass.symbols) {
      if (symbol.id >= 0) {
        ids.push_back(symbol.id);
      } else {
        AppendBytes(word.substr(symbol.begin, symbol.length), first, ids);
      }
    }
  }

  Merge ByScore(std::string_view joint) const {
    const int32_t id = IdOf(joint);
    return id < 0 ? Merge{} : Merge{id, -static_cast<double>(data_.scores[static_cast<size_t>(id)])};
  }

  int32_t IdOf(std::string_view piece) const {
    const auto found = pieces_.find(piece);
    return found == pieces_.end() ? -1 : found->second;
  }

  // Neighbouring bytes that are no tokens are one unknown token, as far as the word (from ids[first]) reaches.
  void AppendBytes(std::string_view text, size_t first, std::vector<int32_t>& ids) const {
    for (char byte : text) {
      const int32_t byte_id = byte_ids_[static_cast<uint8_t>(byte)];
      const bool repeated = byte_id < 0 && ids.size() > first && ids.back() == data_.unknown;
      const int32_t id = byte_id >= 0 ? byte_id : data_.unknown;
      if (id >= 0 && !repeated) ids.push_back(id);
    }
  }

  const TokenizerData& data_;
  absl::flat_hash_map<std::string_view, int32_t> pieces_;  // what merging may give; keys point into data_
  MergeTable merges_;                                      // empty: by score
  TokenMatcher user_defined_;                              // by score: spaces spelled
  std::array<int32_t, 256> byte_ids_;                      // -1: no such byte token
  std::array<bool, 256> joins_space_ = {};                 // [b]: some token holds byte b followed by a spelled space
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextEncoder>> MakeSentencePieceBpe(const TokenizerData& data) {
  return SentencePieceBpe::Create(data);
}

}  // namespace nibble::engine
