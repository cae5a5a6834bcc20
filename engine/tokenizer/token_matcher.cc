#include "engine/tokenizer/token_matcher.h"

namespace nibble::engine {
namespace {

uint64_t EdgeKey(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<uint8_t>(byte); }

}  // namespace

void TokenMatcher::Add(std::string_view text, int32_t id) {
  if (text.empty()) return;
  first_byte_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (char byte : text) {
    const auto [edge, added] = edges_.try_emplace(EdgeKey(node, byte), static_cast<uint32_t>(ids_.size()));
    if (added) ids_.push_back(-1);
    node = edge->second;
  }
  if (ids_[node] < 0) ids_[node] = id;
}

TokenMatcher::Match TokenMatcher::LongestAt(std::string_view text, size_t begin) const {
  Match match{begin, begin, -1};
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto edge = edges_.find(EdgeKey(node, text[i]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (ids_[node] >= 0) match = {begin, i + 1, ids_[node]};
  }
  return match;
}

TokenMatcher::Match TokenMatcher::Find(std::string_view text, size_t from) const {
  for (size_t i = from; i < text.size() && !edges_.empty(); ++i) {
    if (!first_byte_[static_cast<uint8_t>(text[i])]) continue;
    if (const Match match = LongestAt(text, i); match.id >= 0) return match;
  }
  return {text.size(), text.size(), -1};
}

}  // namespace nibble::engine
