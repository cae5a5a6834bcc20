// What differs between styles of tokenizer: how running text becomes ids and what bytes a token stands for.
//
// Both refer to the TokenizerData they were made from, which must outlive them unchanged. Immutable after creation.
#ifndef NIBBLE_ENGINE_TOKENIZER_TEXT_ENCODER_H_
#define NIBBLE_ENGINE_TOKENIZER_TEXT_ENCODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/data.h"

namespace nibble::engine {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // Appends the ids of `text`. User-defined tokens are recognised, control tokens never.
  virtual void Append(std::string_view text, std::vector<int32_t>& ids) const = 0;
  // The bytes of a token that is neither control nor unknown. REQUIRES: 0 <= id < number of tokens.
  virtual std::string Bytes(int32_t id) const = 0;
};

// Byte-level BPE (GPT-2, Radford et al. 2019): bytes spelled as printable characters, merges by rank within the words
// that a PreTokenizer finds. A byte the vocabulary lacks is dropped, as the reference does; a vocabulary with all 256
// keeps every byte. Invalid UTF-8 is encoded byte by byte. FAILED_PRECONDITION for a merge of unknown tokens.
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeByteLevelBpe(const TokenizerData& data);

// SentencePiece's BPE (Kudo and Richardson, arXiv 1808.06226): spaces spelled U+2581, merges by score (or by rank,
// where the data have merges, as files of the `tokenizers` library do), characters without a token by their bytes.
// Bytes that are not UTF-8 become byte tokens. `add_space_prefix` puts a space before each stretch of text. Unused
// pieces take no part. FAILED_PRECONDITION where scores do not match the tokens, and for a merge of unknown tokens.
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeSentencePieceBpe(const TokenizerData& data);

// The type of a token: normal where the file states none.
inline TokenType TypeOf(const TokenizerData& data, int32_t id) {
  return data.types.empty() ? TokenType::kNormal : data.types[static_cast<size_t>(id)];
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_TEXT_ENCODER_H_
