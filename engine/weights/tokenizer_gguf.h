// TokenizerData from the keys `tokenizer.*` of a GGUF file.
#ifndef NIBBLE_ENGINE_WEIGHTS_TOKENIZER_GGUF_H_
#define NIBBLE_ENGINE_WEIGHTS_TOKENIZER_GGUF_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/tokenizer/data.h"
#include "engine/weights/gguf.h"

namespace nibble::engine {

// `vocab_size` is the rows of the embedding: the file's tokens must be as many. Proven: token lengths; sizes of types
// and scores; types in range, scores finite; byte tokens spelled <0x00> … <0xFF>; every `tokenizer.ggml.*_token_id`
// below vocab_size; both sides and the result of every merge in the vocabulary.
//
// Where a file does not say whether to add bos, the ecosystem's convention for its tokenizer holds.
absl::StatusOr<TokenizerData> TokenizerFromGguf(const GgufFile& file, int64_t vocab_size);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TOKENIZER_GGUF_H_
