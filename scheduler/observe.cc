// What others may see of the scheduler, and the check that all of it agrees.
#include <algorithm>

#include "kvcache/base/check.h"
#include "scheduler/scheduler.h"

namespace nibble::sched {

Counters Scheduler::counters() const {
  Counters counters = counters_;
  for (const auto& [order, live] : live_) {
    for (const Sequence& choice : live->choices) {
      if (choice.state == SequenceState::kFinished) continue;
      const bool runs = choice.state == SequenceState::kRunning;
      counters.sequences_paused += choice.paused;
      counters.sequences_running += runs && !choice.paused;
      counters.sequences_waiting += !runs && !choice.paused;
    }
    if (!live->started) counters.tokens_waiting += static_cast<int64_t>(live->request.prompt.size());
  }
  const kv::CacheStats pages = cache_.stats();
  counters.pages_total = pages.total;
  counters.pages_free = pages.free;
  counters.pages_cached = pages.idle;
  counters.raw_slots_total = pages.raw_slots;
  counters.raw_slots_free = pages.raw_free;
  counters.raw_slots_cached = pages.raw_twins;
  return counters;
}

std::vector<SequenceView> Scheduler::Sequences() const {
  std::vector<SequenceView> views;
  for (const auto& [order, live] : live_) {
    for (const Sequence& choice : live->choices) {
      if (choice.state == SequenceState::kFinished) continue;
      const auto row =
          std::find_if(rows_.begin(), rows_.end(), [&choice](const Row& row) { return row.sequence == &choice; });
      views.push_back({live->request.tenant, live->request.id, choice.index, choice.state, choice.paused,
                       choice.preempted, static_cast<int64_t>(choice.tokens.size()), choice.computed,
                       row == rows_.end() ? 0 : row->num_tokens, static_cast<int64_t>(choice.lease.pages().size())});
    }
  }
  return views;
}

void Scheduler::CheckInvariants() const {
  std::vector<const kv::Lease*> leases;
  size_t running = 0;
  int64_t waiting = 0;
  for (const auto& [order, live] : live_) {
    int live_choices = 0;
    for (const Sequence& choice : live->choices) {
      leases.push_back(&choice.lease);
      live_choices += choice.state != SequenceState::kFinished;
      running += choice.state == SequenceState::kRunning;
      waiting += choice.state == SequenceState::kWaiting;
      const bool runs = choice.state == SequenceState::kRunning;
      NIBBLE_CHECK(runs || (choice.lease.pages().empty() && choice.computed == 0) ||
                   choice.state == SequenceState::kFinished);
      NIBBLE_CHECK(!runs ||
                   (choice.remaining() >= 1 && choice.lease.sealed_pages() == choice.computed / kv::kPageTokens));
    }
    NIBBLE_CHECK(live_choices == live->live_choices && live_choices > 0);
    NIBBLE_CHECK(by_sink_.contains(live->sink));
  }
  NIBBLE_CHECK(by_sink_.size() == live_.size());
  NIBBLE_CHECK(running == running_.size() && waiting == waiting_.size());
  NIBBLE_CHECK(std::is_sorted(running_.begin(), running_.end(),
                              [](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); }));
  cache_.CheckInvariants(leases);
}

}  // namespace nibble::sched
