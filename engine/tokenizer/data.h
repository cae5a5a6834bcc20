// A tokenizer as a model file states it, before any processing.
#ifndef NIBBLE_ENGINE_TOKENIZER_DATA_H_
#define NIBBLE_ENGINE_TOKENIZER_DATA_H_

#include <cstdint>
#include <string>
#include <vector>

namespace nibble::engine {

enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct TokenizerData {
  enum class Style { kByteLevelBpe, kSentencePiece };  // GGUF: "gpt2", "llama"
  Style style = Style::kByteLevelBpe;
  std::string pre;                  // byte-level BPE: "smollm", "qwen2", "gpt-2", "llama-bpe", …
  std::vector<std::string> tokens;  // by id
  std::vector<TokenType> types;     // same size, or empty: all normal
  std::vector<float> scores;        // SentencePiece: same size, or empty where there are merges
  std::vector<std::string> merges;  // "left right", best first; SentencePiece: empty where there are scores
  int32_t bos = -1, eos = -1, eot = -1, unknown = -1, pad = -1;  // -1: none
  std::vector<int32_t> end_ids;  // what ends a generation beside eos, eot and what ends one by convention
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;  // SentencePiece
  std::string chat_template;     // Jinja source; empty: none
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_DATA_H_
