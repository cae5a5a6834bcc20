// Finds tokens that stand as they are in text (control and user-defined ones), leftmost first and of those the longest.
// Filled once, then read by any number of threads.
#ifndef NIBBLE_ENGINE_TOKENIZER_TOKEN_MATCHER_H_
#define NIBBLE_ENGINE_TOKENIZER_TOKEN_MATCHER_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace nibble::engine {

class TokenMatcher {
 public:
  struct Match {
    size_t begin = 0, end = 0;  // byte offsets
    int32_t id = -1;            // -1: nothing found, begin = end = text.size()
  };

  // Ignores an empty text; of two equal texts the first stays.
  void Add(std::string_view text, int32_t id);
  // The first match that begins at or after `from`. O(text.size()) times the longest token, in practice O(match.end).
  Match Find(std::string_view text, size_t from) const;

 private:
  Match LongestAt(std::string_view text, size_t begin) const;

  // A trie: node 0 is the root; edges are keyed by node and byte.
  absl::flat_hash_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> ids_ = {-1};  // by node
  std::array<bool, 256> first_byte_ = {};
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_TOKEN_MATCHER_H_
