// Words already encoded during one call: text repeats itself. Bounded; the keys point into the caller's text.
#ifndef NIBBLE_ENGINE_TOKENIZER_WORD_CACHE_H_
#define NIBBLE_ENGINE_TOKENIZER_WORD_CACHE_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace nibble::engine {

class WordCache {
 public:
  // Appends to `ids` what `encode(word, ids)` appends, calling it only for words it does not remember.
  template <typename Encode>
  void Append(std::string_view word, std::vector<int32_t>& ids, Encode encode) {
    if (word.size() > kMaxCachedWordBytes) return encode(word, ids);
    if (const auto known = places_.find(word); known != places_.end()) {
      const auto first = ids_.begin() + known->second.begin;
      ids.insert(ids.end(), first, first + known->second.count);
      return;
    }
    const size_t before = ids.size();
    encode(word, ids);
    if (places_.size() == kMaxWords) return;
    places_.emplace(word, Place{static_cast<uint32_t>(ids_.size()), static_cast<uint32_t>(ids.size() - before)});
    ids_.insert(ids_.end(), ids.begin() + static_cast<ptrdiff_t>(before), ids.end());
  }

 private:
  static constexpr size_t kMaxCachedWordBytes = 48;
  static constexpr size_t kMaxWords = 1 << 14;

  struct Place {
    uint32_t begin, count;  // in ids_
  };
  absl::flat_hash_map<std::string_view, Place> places_;
  std::vector<int32_t> ids_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_WORD_CACHE_H_
