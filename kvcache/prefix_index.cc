#include "kvcache/prefix_index.h"

#include <algorithm>

#include "kvcache/base/check.h"

namespace nibble::kv {

PageId PrefixIndex::Find(const PageContent& content) const {
  const auto found = by_chain_.find(content.chain);
  if (found == by_chain_.end()) return kNoPage;
  const Entry& entry = entries_[found->second];
  const bool equal = entry.parent == content.parent && (content.parent != kNoPage || entry.salt == content.salt) &&
                     std::equal(entry.tokens.begin(), entry.tokens.end(), content.tokens.begin());
  return equal ? found->second : kNoPage;
}

bool PrefixIndex::Insert(PageId page, const PageContent& content) {
  NIBBLE_CHECK(content.tokens.size() == kPageTokens && !entries_[page].indexed);
  NIBBLE_CHECK(content.parent == kNoPage || entries_[content.parent].indexed);
  if (!by_chain_.try_emplace(content.chain, page).second) return false;
  Entry& entry = entries_[page];
  entry.indexed = true;
  entry.chain = content.chain;
  entry.parent = content.parent;
  entry.first = content.parent == kNoPage ? page : entries_[content.parent].first;
  if (content.parent == kNoPage) entry.salt = std::string(content.salt);
  std::copy(content.tokens.begin(), content.tokens.end(), entry.tokens.begin());
  return true;
}

void PrefixIndex::Erase(PageId page) {
  Entry& entry = entries_[page];
  NIBBLE_CHECK(entry.indexed);
  by_chain_.erase(entry.chain);
  entry.indexed = false;
  entry.salt.clear();
}

}  // namespace nibble::kv
