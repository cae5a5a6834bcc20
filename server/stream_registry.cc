#include "server/stream_registry.h"

#include <utility>

#include "kvcache/base/check.h"

namespace nibble::server {

void WatchedStream::CheckStalled(sched::Nanos now) {
  if (stalled_since_.has_value()) {
    if (now - *stalled_since_ >= patience_) Reset();
    return;
  }
  if (AbortIfStalled(now - patience_)) stalled_since_ = now;
}

void WatchedStream::Reset() {
  absl::MutexLock lock(&done_mu_);
  if (!done_) ResetCall();
}

void WatchedStream::NoteDone() {
  absl::MutexLock lock(&done_mu_);
  done_ = true;
}

StreamRegistry::StreamRegistry(absl::Duration period, std::function<sched::Nanos()> clock)
    : period_(period), clock_(std::move(clock)), watcher_([this] { Watch(); }) {}

StreamRegistry::~StreamRegistry() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  watcher_.join();
  absl::MutexLock lock(&mu_);
  NIBBLE_CHECK(streams_.empty());
}

void StreamRegistry::Add(std::shared_ptr<WatchedStream> stream) {
  absl::MutexLock lock(&mu_);
  WatchedStream* key = stream.get();
  streams_.emplace(key, std::move(stream));
}

void StreamRegistry::Remove(WatchedStream* stream) {
  std::shared_ptr<WatchedStream> last;  // destroyed after the lock is released
  absl::MutexLock lock(&mu_);
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  last = std::move(it->second);
  streams_.erase(it);
}

int64_t StreamRegistry::size() const {
  absl::MutexLock lock(&mu_);
  return static_cast<int64_t>(streams_.size());
}

bool StreamRegistry::AwaitEmpty(absl::Duration timeout) const {
  const auto empty = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return streams_.empty(); };
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

void StreamRegistry::AwaitEmptyOrStop(absl::Duration timeout) const {
  const auto over = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return streams_.empty() || stop_waiting_; };
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(&over), timeout);
}

void StreamRegistry::StopWaiting() {
  absl::MutexLock lock(&mu_);
  stop_waiting_ = true;
}

void StreamRegistry::ResetAll() {
  std::vector<std::shared_ptr<WatchedStream>> streams;
  {
    absl::MutexLock lock(&mu_);
    streams = All();
  }
  for (const auto& stream : streams) stream->Reset();
}

void StreamRegistry::Cancel(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids) {
  std::vector<std::shared_ptr<WatchedStream>> streams;
  {
    absl::MutexLock lock(&mu_);
    streams = All();
  }
  for (const auto& stream : streams) stream->CancelIfNamed(tenant, request_ids);
}

std::vector<std::shared_ptr<WatchedStream>> StreamRegistry::All() const {
  std::vector<std::shared_ptr<WatchedStream>> streams;
  for (const auto& [key, stream] : streams_) streams.push_back(stream);
  return streams;
}

void StreamRegistry::Watch() {
  while (true) {
    std::vector<std::shared_ptr<WatchedStream>> streams;
    {
      absl::MutexLock lock(&mu_);
      mu_.AwaitWithTimeout(absl::Condition(&stopping_), period_);
      if (stopping_) return;
      streams = All();
    }
    const sched::Nanos now = clock_();
    for (const auto& stream : streams) stream->CheckStalled(now);
  }
}

}  // namespace nibble::server
