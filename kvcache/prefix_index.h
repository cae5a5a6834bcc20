// Finds sealed pages by content: a page's key is a chain hash over the salt, every page before it and its own tokens.
//
// A hash only proposes. A hit is granted after comparing the page's tokens and its predecessor (page by page down to
// the salt), so two contents with one hash never share pages; the second is simply not indexed. Entries form a tree: a
// page's predecessor stays indexed as long as the page is. Thread: one owner.
#ifndef NIBBLE_KVCACHE_PREFIX_INDEX_H_
#define NIBBLE_KVCACHE_PREFIX_INDEX_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvcache/page.h"
#include "kvcache/siphash.h"

namespace nibble::kv {

// One full page as a place in the tree. `salt` matters only where `parent` is kNoPage.
struct PageContent {
  Hash128 chain;  // over everything below
  PageId parent = kNoPage;
  absl::string_view salt;
  absl::Span<const int32_t> tokens;  // [kPageTokens]
};

class PrefixIndex {
 public:
  explicit PrefixIndex(int64_t num_pages) : entries_(num_pages) {}

  // The page with this very content, or kNoPage.
  PageId Find(const PageContent& content) const;
  // False where the chain hash is already taken. REQUIRES: the page is not indexed, its parent is.
  bool Insert(PageId page, const PageContent& content);
  // REQUIRES: indexed, and no indexed page has it as parent.
  void Erase(PageId page);

  bool Contains(PageId page) const { return entries_[page].indexed; }
  PageId parent(PageId page) const { return entries_[page].parent; }
  // Of an indexed page.
  const Hash128& chain(PageId page) const { return entries_[page].chain; }
  absl::Span<const int32_t> tokens(PageId page) const { return entries_[page].tokens; }
  absl::string_view salt(PageId page) const { return entries_[entries_[page].first].salt; }
  int64_t size() const { return static_cast<int64_t>(by_chain_.size()); }
  int64_t num_pages() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    bool indexed = false;
    Hash128 chain;
    PageId parent = kNoPage;
    PageId first = kNoPage;  // of the chain; itself where there is no parent
    std::string salt;        // of the first page alone
    std::array<int32_t, kPageTokens> tokens = {};
  };
  std::vector<Entry> entries_;  // [num_pages]
  absl::flat_hash_map<Hash128, PageId> by_chain_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_PREFIX_INDEX_H_
