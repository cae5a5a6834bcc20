// A vocabulary as a trie over the bytes of its tokens: what a grammar's automaton walks to find the tokens it allows.
//
// Immutable after creation; any thread. About 12 bytes a node and the tokens' bytes once.
#ifndef NIBBLE_ENGINE_GRAMMAR_TOKEN_TRIE_H_
#define NIBBLE_ENGINE_GRAMMAR_TOKEN_TRIE_H_

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "engine/tokenizer/tokenizer.h"

namespace nibble::engine::grammar {

class TokenTrie {
 public:
  // Nodes lie in preorder; node 0 is the root and stands for no byte.
  struct Node {
    int32_t end;          // of the subtree: the first node behind it
    int32_t first_token;  // in ids(): tokens that end here
    uint16_t num_tokens;
    uint16_t depth;  // bytes from the root
    uint8_t byte;
  };

  // `tokens[id]` are the bytes that id stands for; empty: it stands for none and no grammar allows it. `vocab_size` is
  // the number of logits, which may exceed the number of tokens. REQUIRES: tokens.size() <= vocab_size.
  TokenTrie(absl::Span<const std::string> tokens, int64_t vocab_size);
  // The tokens of a tokenizer; control tokens stand for no bytes.
  TokenTrie(const Tokenizer& tokenizer, int64_t vocab_size);

  absl::Span<const Node> nodes() const { return nodes_; }
  absl::Span<const int32_t> ids() const { return ids_; }
  int max_depth() const { return max_depth_; }
  int64_t vocab_size() const { return vocab_size_; }
  // Words of 64 bits that a mask over the vocabulary takes.
  size_t mask_words() const { return (static_cast<size_t>(vocab_size_) + 63) / 64; }
  // Empty for ids without bytes and for those out of range.
  std::string_view TokenBytes(int32_t id) const;
  // Bytes that are a token of their own. A text made of these alone can always be spelled.
  const std::bitset<256>& single_bytes() const { return single_bytes_; }

 private:
  void AddNodes(absl::Span<const int32_t> sorted);

  const int64_t vocab_size_;
  std::string bytes_;             // of all tokens, in order of id
  std::vector<uint32_t> begins_;  // by id, and the end
  std::vector<Node> nodes_;
  std::vector<int32_t> ids_;  // in order of their bytes
  std::bitset<256> single_bytes_;
  int max_depth_ = 0;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_TOKEN_TRIE_H_
