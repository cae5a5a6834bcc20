// Text to token ids and back. Immutable after creation: any number of threads may use one Tokenizer at a time.
#ifndef NIBBLE_ENGINE_TOKENIZER_TOKENIZER_H_
#define NIBBLE_ENGINE_TOKENIZER_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tokenizer/data.h"

namespace nibble::engine {

// A control token spelled in a text.
struct SpecialMatch {
  size_t begin = 0, end = 0;  // byte offsets
  int32_t id = -1;
};

struct EncodeOptions {
  bool add_special = true;     // what the file asks for at the ends: bos, eos
  bool parse_special = false;  // true only for text written by the server itself (a chat template's own words)
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Fails for a pre-tokenizer or vocabulary that is not supported or contradicts itself; the message says which.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerData data);

  // Any bytes are accepted, invalid UTF-8 and NUL included. O(n log n) in text.size(). User-defined tokens are always
  // recognised, as in the reference: they stand for their own text.
  virtual std::vector<int32_t> Encode(std::string_view text, const EncodeOptions& options) const = 0;

  // Where `text` spells control tokens, from left to right, the longest first where they overlap.
  virtual std::vector<SpecialMatch> FindSpecial(std::string_view text) const = 0;

  // The bytes `id` stands for in running text: possibly part of a UTF-8 character. Empty for control tokens unless
  // `special`. REQUIRES: 0 <= id < vocab_size().
  virtual std::string TokenBytes(int32_t id, bool special) const = 0;
  // All of them, with what the style does at the start of a text (SentencePiece drops the first space). Ids out of
  // range are skipped.
  virtual std::string Decode(absl::Span<const int32_t> ids, bool special) const = 0;

  virtual const TokenizerData& data() const = 0;
  int64_t vocab_size() const { return static_cast<int64_t>(data().tokens.size()); }
  // Whether `id` ends a generation: eos, eot, or another the file marks so.
  virtual bool IsEndOfGeneration(int32_t id) const = 0;
  virtual absl::Span<const int32_t> end_of_generation_ids() const = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_TOKENIZER_H_
