// Splits text into the words within which byte-level BPE merges: a chain of regular expressions, named as GGUF's
// `tokenizer.ggml.pre` names them. Each step splits every piece of the step before it on its own; what an expression
// does not match stays a piece of its own. One row per name in one table (pre_tokenizer.cc).
//
// Immutable after creation; any number of threads may split at a time.
#ifndef NIBBLE_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
#define NIBBLE_ENGINE_TOKENIZER_PRE_TOKENIZER_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace nibble::engine {

class PreTokenizer {
 public:
  // UNIMPLEMENTED for a name the table lacks; the message says which.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(std::string_view name);
  ~PreTokenizer();

  // Calls `emit` for each piece from left to right; together they are exactly `text`. Bytes that are not UTF-8 part
  // the text: each is a piece of its own, and the runs between them are split as if alone. Linear in text.size().
  void Split(std::string_view text, absl::FunctionRef<void(std::string_view)> emit) const;

  // A word that is itself a token is taken as it stands, before any merge.
  bool whole_words_first() const { return whole_words_first_; }

 private:
  class Expression;
  class Scratch;

  PreTokenizer();
  void SplitFrom(size_t step, std::string_view text, Scratch& scratch,
                 absl::FunctionRef<void(std::string_view)> emit) const;

  std::vector<std::unique_ptr<Expression>> steps_;
  bool whole_words_first_ = false;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_PRE_TOKENIZER_H_
