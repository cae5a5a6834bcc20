// Sequences that wait for pages or a place, and the one rule that picks among them. Thread: one owner.
#ifndef NIBBLE_SCHEDULER_WAITING_QUEUE_H_
#define NIBBLE_SCHEDULER_WAITING_QUEUE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "scheduler/sequence.h"

namespace nibble::sched {

class WaitingQueue {
 public:
  // `served(tenant)` grows with what a tenant was given; the tenant with the smallest goes first. Here it is the number
  // of its last start, or of its coming, which makes the tenants take turns; a virtual-token counter has its place
  // here.
  explicit WaitingQueue(std::function<uint64_t(const std::string& tenant)> served) : served_(std::move(served)) {}

  void Push(Sequence& sequence) { sequences_.push_back(&sequence); }
  // REQUIRES: present.
  void Remove(Sequence& sequence);
  // Who starts next, or null. The highest priority; in it the preempted ones, oldest first; then tenants in turn, each
  // tenant's requests in order of arrival. Paused ones are passed over. Whoever is next and has to wait for pages holds
  // up the others, so nobody starves. O(n).
  Sequence* Next() const;

  int64_t size() const { return static_cast<int64_t>(sequences_.size()); }
  const std::vector<Sequence*>& sequences() const { return sequences_; }

 private:
  bool GoesBefore(const Sequence& a, const Sequence& b) const;

  std::function<uint64_t(const std::string& tenant)> served_;
  std::vector<Sequence*> sequences_;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_WAITING_QUEUE_H_
