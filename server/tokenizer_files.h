// A model's tokenizer in the files that the Hugging Face ecosystem reads, so that a gateway in front needs no model
// folder: tokenizer.json and tokenizer_config.json (with the chat template), in one zip.
#ifndef NIBBLE_SERVER_TOKENIZER_FILES_H_
#define NIBBLE_SERVER_TOKENIZER_FILES_H_

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/tokenizer/data.h"
#include "engine/tokenizer/tokenizer.h"

namespace nibble::server {

// UNIMPLEMENTED for a pre-tokenizer that has no row here.
absl::StatusOr<std::string> TokenizerJson(const engine::TokenizerData& data);
std::string TokenizerConfigJson(const engine::TokenizerData& data);

// Made when first asked for, on a thread of its own, then kept: a large vocabulary takes seconds, which no other
// request is to wait for. Any thread.
class TokenizerFiles {
 public:
  struct Zip {
    std::string bytes;
    std::string sha256;  // hexadecimal
  };
  using Callback = std::function<void(const absl::StatusOr<Zip>& zip)>;

  // `tokenizer` must outlive it.
  explicit TokenizerFiles(const engine::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // Waits for what is being made.
  ~TokenizerFiles();

  // Calls back once, at once or when the files are made; must not block. What it is given lives as long as this.
  // RESOURCE_EXHAUSTED: there is no thread to make them on; the next call tries again.
  void Get(Callback callback);

 private:
  // False: the system refuses a thread.
  bool StartMaker() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Make();

  const engine::Tokenizer& tokenizer_;
  absl::Mutex mu_;
  std::optional<absl::StatusOr<Zip>> zip_ ABSL_GUARDED_BY(mu_);  // immutable once made
  std::vector<Callback> waiting_ ABSL_GUARDED_BY(mu_);
  std::thread maker_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TOKENIZER_FILES_H_
