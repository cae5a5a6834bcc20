// Hands what becomes of the prefix index to those who watch it. Thread: one owner, the loop thread.
#ifndef NIBBLE_SCHEDULER_INDEX_WATCHERS_H_
#define NIBBLE_SCHEDULER_INDEX_WATCHERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kvcache/cache.h"
#include "kvcache/index_events.h"

namespace nibble::sched {

// Hears of the pages that requests without a tenant and an adapter find cached. Every method is called on the loop
// thread and must return at once.
class IndexWatcher {
 public:
  virtual ~IndexWatcher() = default;
  // The first call has every page that is indexed, also where there is none; each further one has what changed since,
  // in order.
  virtual void OnEvents(absl::Span<const kv::IndexEvent> events) = 0;
  // The server drains or stops; nothing comes after it.
  virtual void OnClosed() = 0;
};

class IndexWatchers {
 public:
  // `cache` must outlive it; pages under `salt` are told of.
  IndexWatchers(kv::Cache* cache, std::string salt) : cache_(cache), salt_(std::move(salt)) {}

  void Add(std::shared_ptr<IndexWatcher> watcher);
  // Ignored where it watches no more.
  void Remove(const IndexWatcher* watcher);
  // Tells what has happened since the last call.
  void Tell();
  // Ends every watch.
  void Close();

 private:
  kv::Cache* const cache_;
  const std::string salt_;
  std::vector<std::shared_ptr<IndexWatcher>> watchers_;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_INDEX_WATCHERS_H_
