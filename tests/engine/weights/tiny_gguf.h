// A right, tiny model file of each architecture: what rows of robustness.md break, and what fuzzing starts from.
#ifndef NIBBLE_TESTS_ENGINE_WEIGHTS_TINY_GGUF_H_
#define NIBBLE_TESTS_ENGINE_WEIGHTS_TINY_GGUF_H_

#include <string>
#include <string_view>

#include "tests/engine/weights/gguf_builder.h"

namespace nibble::engine {

// `layers` of width 8, inner 12, 2 heads of 4 (1 of keys and values), 6 tokens; seeded F32 weights. `architecture` is
// "llama", "qwen2", "qwen3" (byte-level BPE) or "gemma3" (SentencePiece).
GgufBuilder TinyGguf(std::string_view architecture, int layers = 2);

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_WEIGHTS_TINY_GGUF_H_
