// Token ids of one stream to text, piece by piece, without ever splitting a character.
//
// All pieces together are the bytes of the tokens, one after another, read as UTF-8 where each maximal ill-formed part
// (Unicode 15, section 3.9, "best practices for using U+FFFD") becomes one U+FFFD: the text depends on the ids only.
// One thread per stream.
#ifndef NIBBLE_ENGINE_TOKENIZER_INCREMENTAL_DECODER_H_
#define NIBBLE_ENGINE_TOKENIZER_INCREMENTAL_DECODER_H_

#include <cstdint>
#include <string>

#include "engine/tokenizer/tokenizer.h"

namespace nibble::engine {

class IncrementalDecoder {
 public:
  // `tokenizer` must outlive this. Control tokens give no text unless `special`.
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool special = false)
      : tokenizer_(tokenizer), special_(special) {}

  // The text that `id` completes: well-formed UTF-8, often empty. Ids outside the vocabulary give none.
  std::string Push(int32_t id);
  // What is left at the end: U+FFFD for a character that never became whole, or nothing. Ready for a new stream after.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  const bool special_;
  std::string pending_;  // the start of a character, at most 3 bytes between calls
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_INCREMENTAL_DECODER_H_
