#include "scheduler/index_watchers.h"

#include <algorithm>
#include <utility>

namespace nibble::sched {

void IndexWatchers::Add(std::shared_ptr<IndexWatcher> watcher) {
  Tell();  // the new one's first call has it already
  if (watchers_.empty()) cache_->events().Start(salt_);
  watchers_.push_back(std::move(watcher));
  watchers_.back()->OnEvents(cache_->IndexedPages());
}

void IndexWatchers::Remove(const IndexWatcher* watcher) {
  const auto is = [watcher](const std::shared_ptr<IndexWatcher>& one) { return one.get() == watcher; };
  watchers_.erase(std::remove_if(watchers_.begin(), watchers_.end(), is), watchers_.end());
  if (watchers_.empty()) cache_->events().Stop();
}

void IndexWatchers::Tell() {
  const std::vector<kv::IndexEvent> events = cache_->events().Take();
  if (events.empty()) return;
  for (const std::shared_ptr<IndexWatcher>& watcher : watchers_) watcher->OnEvents(events);
}

void IndexWatchers::Close() {
  for (const std::shared_ptr<IndexWatcher>& watcher : std::exchange(watchers_, {})) watcher->OnClosed();
  cache_->events().Stop();
}

}  // namespace nibble::sched
