// What becomes of the prefix index, for those who route requests to where their prefix is cached.
//
// Only pages under one salt are told of: what others cached is nobody's business. Thread: one owner, the loop thread.
#ifndef NIBBLE_KVCACHE_INDEX_EVENTS_H_
#define NIBBLE_KVCACHE_INDEX_EVENTS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvcache/page.h"
#include "kvcache/prefix_index.h"

namespace nibble::kv {

struct IndexEvent {
  enum class Kind { kStored, kRemoved };
  Kind kind = Kind::kStored;
  // Names the page by its content, in this process: equal for equal salt and tokens from position 0.
  uint64_t page = 0;
  // Of a stored page alone.
  std::optional<uint64_t> parent;  // absent for the first page of a sequence
  std::vector<int32_t> tokens;     // [kPageTokens]
};

class IndexEvents {
 public:
  // Records from now on what happens to pages under `salt`.
  void Start(std::string salt) { salt_ = std::move(salt); }
  // Records no more, and forgets what was recorded.
  void Stop();

  // The index has this page as of now; will not have it from now on.
  void OnInserted(const PrefixIndex& index, PageId page);
  void OnErasing(const PrefixIndex& index, PageId page);

  // What was recorded since the last call, in order.
  std::vector<IndexEvent> Take();
  // kStored for every page that the index has under the salt, a page after its predecessor. O(pages).
  std::vector<IndexEvent> Indexed(const PrefixIndex& index) const;

 private:
  bool Tells(const PrefixIndex& index, PageId page) const;

  std::optional<std::string> salt_;
  std::vector<IndexEvent> recorded_;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_INDEX_EVENTS_H_
