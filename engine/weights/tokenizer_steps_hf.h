// What tokenizer.json does around its model (normalizer, pre_tokenizer, post_processor), recognised as what
// engine/tokenizer has. Each is a step or a Sequence of steps, each step an object with a type. Source of the format:
// https://github.com/huggingface/tokenizers (the serialized form of its components)
#ifndef NIBBLE_ENGINE_WEIGHTS_TOKENIZER_STEPS_HF_H_
#define NIBBLE_ENGINE_WEIGHTS_TOKENIZER_STEPS_HF_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/tokenizer/data.h"
#include "engine/weights/json_document.h"

namespace nibble::engine {

// What comes before the model.
struct HfTextSteps {
  TokenizerData::Style style = TokenizerData::Style::kByteLevelBpe;
  std::string pre;                // byte-level BPE: the pre-tokenizer's name in GGUF files
  bool add_space_prefix = false;  // SentencePiece style
};

// FAILED_PRECONDITION for steps that are none of the known chains. Of normalizers NFC is accepted and left out, as it
// is for GGUF files (engine/tokenizer/README.md).
absl::StatusOr<HfTextSteps> ReadTextSteps(const JsonDocument& tokenizer);

// The special tokens that post_processor puts at the ends of a text; empty: none.
struct HfEnds {
  std::string first, last;
};
absl::StatusOr<HfEnds> ReadEnds(const JsonDocument& tokenizer);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TOKENIZER_STEPS_HF_H_
