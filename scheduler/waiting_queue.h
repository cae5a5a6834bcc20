// Sequences that wait for pages or a place, and the one rule that picks among them. Thread: one owner.
#ifndef NIBBLE_SCHEDULER_WAITING_QUEUE_H_
#define NIBBLE_SCHEDULER_WAITING_QUEUE_H_

#include <cstdint>
#include <vector>

#include "scheduler/sequence.h"

namespace nibble::sched {

class WaitingQueue {
 public:
  void Push(Sequence& sequence) { sequences_.push_back(&sequence); }
  // REQUIRES: present.
  void Remove(Sequence& sequence);
  // Who starts next, or null. The highest priority; in it the preempted ones, oldest first; then the tenant that has
  // been given or promised least, each tenant's requests in order of arrival. Passed over: paused ones, and those whose
  // tenant's terms have to wait for the end of others of it. Whoever is next and has to wait for pages holds up the
  // others, so nobody starves. O(n). REQUIRES: every account's `running` is counted.
  Sequence* Next() const;

  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  const std::vector<Sequence*>& sequences() const { return sequences_; }

 private:
  static bool GoesBefore(const Sequence& a, const Sequence& b);

  std::vector<Sequence*> sequences_;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_WAITING_QUEUE_H_
