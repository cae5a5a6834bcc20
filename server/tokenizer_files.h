// A model's tokenizer in the files that the Hugging Face ecosystem reads, so that a gateway in front needs no model
// folder: tokenizer.json and tokenizer_config.json (with the chat template), in one zip.
#ifndef NIBBLE_SERVER_TOKENIZER_FILES_H_
#define NIBBLE_SERVER_TOKENIZER_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/tokenizer/data.h"
#include "engine/tokenizer/tokenizer.h"

namespace nibble::server {

// UNIMPLEMENTED for a pre-tokenizer that has no row here.
absl::StatusOr<std::string> TokenizerJson(const engine::TokenizerData& data);
std::string TokenizerConfigJson(const engine::TokenizerData& data);

// Made when first asked for, then kept. Any thread.
class TokenizerFiles {
 public:
  struct Zip {
    std::string bytes;
    std::string sha256;  // hexadecimal
  };

  // `tokenizer` must outlive it.
  explicit TokenizerFiles(const engine::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Takes a second for a large vocabulary the first time: not for a gRPC thread. The zip lives as long as this.
  absl::StatusOr<const Zip*> Get();

 private:
  const engine::Tokenizer& tokenizer_;
  absl::Mutex mu_;
  Zip zip_ ABSL_GUARDED_BY(mu_);  // immutable once made
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TOKENIZER_FILES_H_
