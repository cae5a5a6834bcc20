#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/text_encoder.h"
#include "engine/tokenizer/token_matcher.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Control tokens that end a turn or a text by convention, whatever the file names as eos.
constexpr std::array<std::string_view, 9> kEndTokens = {"<|eot_id|>",    "<|im_end|>",      "<|end|>",
                                                        "<end_of_turn>", "<|endoftext|>",   "<|end_of_text|>",
                                                        "<|eom_id|>",    "<|end_of_turn|>", "<EOT>"};

bool IsSpecial(TokenType type) { return type == TokenType::kControl || type == TokenType::kUnknown; }

absl::Status CheckId(const char* name, int32_t id, size_t num_tokens) {
  if (id >= -1 && id < static_cast<int64_t>(num_tokens)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("tokenizer ", name, " id ", id, " is outside the vocabulary"));
}

absl::Status CheckData(const TokenizerData& data) {
  const size_t num_tokens = data.tokens.size();
  if (num_tokens == 0) return absl::FailedPreconditionError("tokenizer has no tokens");
  if (!data.types.empty() && data.types.size() != num_tokens) {
    return absl::FailedPreconditionError(
        absl::StrCat("tokenizer has ", num_tokens, " tokens but ", data.types.size(), " types"));
  }
  NIBBLE_RETURN_IF_ERROR(CheckId("bos", data.bos, num_tokens));
  NIBBLE_RETURN_IF_ERROR(CheckId("eos", data.eos, num_tokens));
  NIBBLE_RETURN_IF_ERROR(CheckId("eot", data.eot, num_tokens));
  NIBBLE_RETURN_IF_ERROR(CheckId("unknown", data.unknown, num_tokens));
  for (const int32_t id : data.end_ids) NIBBLE_RETURN_IF_ERROR(CheckId("end", id, num_tokens));
  return CheckId("pad", data.pad, num_tokens);
}

class ModelTokenizer : public Tokenizer {
 public:
  explicit ModelTokenizer(TokenizerData data) : data_(std::move(data)) {}

  absl::Status Build() {
    const bool byte_level = data_.style == TokenizerData::Style::kByteLevelBpe;
    NIBBLE_ASSIGN_OR_RETURN(encoder_, byte_level ? MakeByteLevelBpe(data_) : MakeSentencePieceBpe(data_));
    for (int32_t id = 0; id < vocab_size(); ++id) {
      if (!IsSpecial(TypeOf(data_, id))) continue;
      const std::string& token = data_.tokens[static_cast<size_t>(id)];
      special_.Add(token, id);
      if (std::find(kEndTokens.begin(), kEndTokens.end(), token) != kEndTokens.end()) ends_.push_back(id);
    }
    for (int32_t id : {data_.eos, data_.eot}) {
      if (id >= 0) ends_.push_back(id);
    }
    ends_.insert(ends_.end(), data_.end_ids.begin(), data_.end_ids.end());
    std::sort(ends_.begin(), ends_.end());
    ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
    return absl::OkStatus();
  }

  std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special && data_.add_bos && data_.bos >= 0) ids.push_back(data_.bos);
    size_t position = 0;
    if (options.parse_special) {
      for (const SpecialMatch& match : FindSpecial(text)) {
        encoder_->Append(text.substr(position, match.begin - position), ids);
        ids.push_back(match.id);
        position = match.end;
      }
    }
    encoder_->Append(text.substr(position), ids);
    if (options.add_special && data_.add_eos && data_.eos >= 0) ids.push_back(data_.eos);
    return ids;
  }

  std::vector<SpecialMatch> FindSpecial(std::string_view text) const override {
    std::vector<SpecialMatch> matches;
    for (TokenMatcher::Match match = special_.Find(text, 0); match.id >= 0; match = special_.Find(text, match.end)) {
      matches.push_back({match.begin, match.end, match.id});
    }
    return matches;
  }

  std::string TokenBytes(int32_t id, bool special) const override {
    NIBBLE_CHECK(id >= 0 && id < vocab_size());
    const TokenType type = TypeOf(data_, id);
    if (!IsSpecial(type) && type != TokenType::kUnused) return encoder_->Bytes(id);
    return special ? data_.tokens[static_cast<size_t>(id)] : std::string();
  }

  std::string Decode(absl::Span<const int32_t> ids, bool special) const override {
    std::string text;
    for (int32_t id : ids) {
      if (id >= 0 && id < vocab_size()) text += TokenBytes(id, special);
    }
    const bool prefixed = data_.style == TokenizerData::Style::kSentencePiece && data_.add_space_prefix;
    if (prefixed && !text.empty() && text[0] == ' ') text.erase(0, 1);
    return text;
  }

  const TokenizerData& data() const override { return data_; }
  bool IsEndOfGeneration(int32_t id) const override { return std::binary_search(ends_.begin(), ends_.end(), id); }
  absl::Span<const int32_t> end_of_generation_ids() const override { return ends_; }

 private:
  const TokenizerData data_;
  std::unique_ptr<TextEncoder> encoder_;
  TokenMatcher special_;
  std::vector<int32_t> ends_;  // ascending
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(TokenizerData data) {
  NIBBLE_RETURN_IF_ERROR(CheckData(data));
  auto tokenizer = std::make_unique<ModelTokenizer>(std::move(data));
  NIBBLE_RETURN_IF_ERROR(tokenizer->Build());
  return tokenizer;
}

}  // namespace nibble::engine
