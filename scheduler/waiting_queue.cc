#include "scheduler/waiting_queue.h"

#include <algorithm>

#include "kvcache/base/check.h"

namespace nibble::sched {

void WaitingQueue::Remove(Sequence& sequence) {
  const auto found = std::find(sequences_.begin(), sequences_.end(), &sequence);
  NIBBLE_CHECK(found != sequences_.end());
  sequences_.erase(found);
}

Sequence* WaitingQueue::Next() const {
  Sequence* next = nullptr;
  for (Sequence* sequence : sequences_) {
    if (sequence->paused || !FitsTerms(*sequence)) continue;
    if (next == nullptr || GoesBefore(*sequence, *next)) next = sequence;
  }
  return next;
}

bool WaitingQueue::GoesBefore(const Sequence& a, const Sequence& b) {
  const Request& first = a.request->request;
  const Request& second = b.request->request;
  if (first.priority != second.priority) return first.priority > second.priority;
  if (a.preempted != b.preempted) return a.preempted;
  const double claimed_first = a.request->account->claimed();
  const double claimed_second = b.request->account->claimed();
  if (!a.preempted && claimed_first != claimed_second) return claimed_first < claimed_second;
  return RanksBefore(a, b);
}

}  // namespace nibble::sched
