// TokenizerData from the files of a Hugging Face folder.
#ifndef NIBBLE_ENGINE_WEIGHTS_TOKENIZER_HF_H_
#define NIBBLE_ENGINE_WEIGHTS_TOKENIZER_HF_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/tokenizer/data.h"
#include "engine/weights/json_document.h"

namespace nibble::engine {

struct HfTokenizerFiles {
  const JsonDocument& tokenizer;          // tokenizer.json: model, added tokens, what happens before and after
  const JsonDocument& tokenizer_config;   // names of special tokens, the chat template
  const JsonDocument& generation_config;  // what ends a generation
  const JsonDocument& config;             // ids, where the two before are silent
};

// `vocab_size` is the rows of the embedding; ids below it without a token become unused ones. Byte-level BPE is what
// has a ByteLevel pre-tokenizer, SentencePiece style what has byte_fallback; its merges are kept in place of scores.
//
// FAILED_PRECONDITION names the file and the field. Proven: ids below vocab_size, one token each; token lengths; both
// sides and the result of every merge in the vocabulary; names of special tokens in the vocabulary. Refused, as it
// would change ids: any model, normalizer, pre-tokenizer, post-processor or option of an added token beyond those of
// the supported models (tokenizer_steps_hf.h).
absl::StatusOr<TokenizerData> TokenizerFromHf(const HfTokenizerFiles& files, int64_t vocab_size);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TOKENIZER_HF_H_
