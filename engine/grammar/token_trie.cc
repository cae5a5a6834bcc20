#include "engine/grammar/token_trie.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kvcache/base/check.h"

namespace nibble::engine::grammar {
namespace {

// A longer token is never allowed: nobody's vocabulary has one, and depths stay small.
constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kMaxEqualTokens = std::numeric_limits<uint16_t>::max();

std::vector<std::string> BytesOf(const Tokenizer& tokenizer) {
  std::vector<std::string> tokens;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) tokens.push_back(tokenizer.TokenBytes(id, false));
  return tokens;
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer, int64_t vocab_size) : TokenTrie(BytesOf(tokenizer), vocab_size) {}

TokenTrie::TokenTrie(absl::Span<const std::string> tokens, int64_t vocab_size) : vocab_size_(vocab_size) {
  NIBBLE_CHECK(static_cast<int64_t>(tokens.size()) <= vocab_size);
  for (const std::string& token : tokens) {
    begins_.push_back(static_cast<uint32_t>(bytes_.size()));
    if (token.size() <= kMaxTokenBytes) bytes_ += token;
    if (token.size() == 1) single_bytes_.set(static_cast<uint8_t>(token[0]));
  }
  begins_.push_back(static_cast<uint32_t>(bytes_.size()));
  std::vector<int32_t> sorted(tokens.size());
  std::iota(sorted.begin(), sorted.end(), 0);
  std::erase_if(sorted, [this](int32_t id) { return TokenBytes(id).empty(); });
  std::sort(sorted.begin(), sorted.end(), [this](int32_t a, int32_t b) {
    const int order = TokenBytes(a).compare(TokenBytes(b));
    return order != 0 ? order < 0 : a < b;
  });
  AddNodes(sorted);
}

std::string_view TokenTrie::TokenBytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) + 1 >= begins_.size()) return {};
  const size_t begin = begins_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(begin, begins_[static_cast<size_t>(id) + 1] - begin);
}

void TokenTrie::AddNodes(absl::Span<const int32_t> sorted) {
  nodes_.push_back({0, 0, 0, 0, 0});
  std::vector<int32_t> path = {0};  // nodes from the root to the token before
  std::string_view before;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) nodes_[path.back()].end = static_cast<int32_t>(nodes_.size());
  };
  for (const int32_t id : sorted) {
    const std::string_view bytes = TokenBytes(id);
    const size_t common = std::mismatch(bytes.begin(), bytes.end(), before.begin(), before.end()).first - bytes.begin();
    close(common);
    for (size_t i = common; i < bytes.size(); ++i) {
      path.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back(
          {0, static_cast<int32_t>(ids_.size()), 0, static_cast<uint16_t>(i + 1), static_cast<uint8_t>(bytes[i])});
    }
    if (nodes_[path.back()].num_tokens == kMaxEqualTokens) continue;
    ++nodes_[path.back()].num_tokens;
    ids_.push_back(id);
    before = bytes;
    max_depth_ = std::max(max_depth_, static_cast<int>(bytes.size()));
  }
  close(0);
  nodes_[0].end = static_cast<int32_t>(nodes_.size());
}

}  // namespace nibble::engine::grammar
