#include "engine/tokenizer/incremental_decoder.h"

#include <string_view>
#include <utility>

#include "engine/tokenizer/utf8.h"

namespace nibble::engine {

std::string IncrementalDecoder::Push(int32_t id) {
  if (id < 0 || id >= tokenizer_.vocab_size()) return "";
  pending_ += tokenizer_.TokenBytes(id, special_);
  std::string text;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const size_t valid = ValidPrefixLength(rest);
    text += rest.substr(0, valid);
    rest.remove_prefix(valid);
    if (rest.empty() || IsIncompleteCharacter(rest)) break;
    text += kReplacementCharacter;
    rest.remove_prefix(IllFormedLength(rest));
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string IncrementalDecoder::Flush() {
  return std::exchange(pending_, "").empty() ? std::string() : std::string(kReplacementCharacter);
}

}  // namespace nibble::engine
