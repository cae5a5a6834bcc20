// Values by key, the least recently used ones dropped where they take more than a number of bytes. Thread-safe; calls
// only copy a pointer under the lock.
#ifndef NIBBLE_ENGINE_GRAMMAR_BYTE_LRU_H_
#define NIBBLE_ENGINE_GRAMMAR_BYTE_LRU_H_

#include <cstddef>
#include <iterator>
#include <list>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kvcache/base/mutex.h"

namespace nibble::engine::grammar {

template <typename Key, typename Value>
class ByteLru {
 public:
  explicit ByteLru(size_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  // nullptr where there is none.
  std::shared_ptr<const Value> Find(const Key& key) {
    MutexLock lock(&mu_);
    const auto found = entries_.find(key);
    if (found == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->value;
  }

  // Keeps `value` and returns it, or the one that another thread put there first. A value larger than the capacity is
  // not kept.
  std::shared_ptr<const Value> Insert(const Key& key, std::shared_ptr<const Value> value, size_t bytes) {
    std::list<Entry> dropped;  // outlives the lock: values may take long to destroy
    MutexLock lock(&mu_);
    if (const auto found = entries_.find(key); found != entries_.end()) return found->second->value;
    if (bytes > capacity_bytes_) return value;
    order_.push_front({key, value, bytes});
    entries_[key] = order_.begin();
    bytes_ += bytes;
    while (bytes_ > capacity_bytes_) {
      bytes_ -= order_.back().bytes;
      entries_.erase(order_.back().key);
      dropped.splice(dropped.begin(), order_, std::prev(order_.end()));
    }
    return value;
  }

  size_t bytes() const {
    MutexLock lock(&mu_);
    return bytes_;
  }

 private:
  struct Entry {
    Key key;
    std::shared_ptr<const Value> value;
    size_t bytes;
  };

  const size_t capacity_bytes_;
  mutable Mutex mu_;
  std::list<Entry> order_ ABSL_GUARDED_BY(mu_);  // latest first
  absl::flat_hash_map<Key, typename std::list<Entry>::iterator> entries_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_BYTE_LRU_H_
