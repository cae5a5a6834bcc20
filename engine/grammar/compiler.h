// From what a request asks its answer to be, to a grammar: by any of the notations, within limits.h, and only once for
// equal requests as long as the cache remembers.
#ifndef NIBBLE_ENGINE_GRAMMAR_COMPILER_H_
#define NIBBLE_ENGINE_GRAMMAR_COMPILER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/byte_lru.h"
#include "engine/grammar/grammar.h"
#include "engine/tokenizer/tokenizer.h"
#include "kvcache/base/mutex.h"

namespace nibble::engine::grammar {

enum class Notation { kJsonSchema, kRegex, kChoice, kEbnf };

struct Constraint {
  Notation notation = Notation::kJsonSchema;
  std::string source;                // but for kChoice
  std::vector<std::string> choices;  // kChoice: the answer is one of them, as it stands
};

struct CacheSizes {
  size_t grammar_bytes = size_t{64} << 20;
  size_t mask_bytes = size_t{64} << 20;
};

// Any thread; nothing waits for another's compiling.
class Compiler {
 public:
  // The vocabulary is read at the first call of Compile: `tokenizer` must outlive the compiler.
  Compiler(const Tokenizer& tokenizer, int64_t vocab_size, CacheSizes sizes = {});

  // Takes milliseconds, some tens where the first one reads the vocabulary: not for a thread that serves others.
  // INVALID_ARGUMENT says what is wrong, without naming the field.
  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const Constraint& constraint);

  // What the caches take now.
  size_t cached_bytes() const;

 private:
  std::shared_ptr<Vocabulary> GetVocabulary();

  const Tokenizer& tokenizer_;
  const int64_t vocab_size_;
  const CacheSizes sizes_;
  mutable Mutex mu_;
  std::shared_ptr<Vocabulary> vocabulary_ ABSL_GUARDED_BY(mu_);
  ByteLru<std::string, Grammar> grammars_;
};

// Without a cache. INVALID_ARGUMENT as Compiler::Compile.
absl::StatusOr<std::shared_ptr<const Grammar>> CompileConstraint(const Constraint& constraint,
                                                                 std::shared_ptr<Vocabulary> vocabulary);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_COMPILER_H_
