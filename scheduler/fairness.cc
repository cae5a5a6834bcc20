// What Plan knows of tenants: what they were given, and what their terms allow.
#include <algorithm>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"

namespace nibble::sched {

void Scheduler::CountRunning() {
  fair_share_.ClearRunning();
  for (const Sequence* sequence : running_) {
    if (sequence->paused) continue;
    FairAccount::Running& running = sequence->request->account->running;
    ++running.sequences;
    running.pages += static_cast<int64_t>(sequence->lease.pages().size());
    running.prompt_tokens += sequence->usage.prompt_tokens - sequence->charged;
  }
}

// Where `sequence`, grown, would take its tenant beyond the pages that its terms allow: the tenant's last in rank,
// which may be `sequence`. Never the tenant's only one.
Sequence* Scheduler::VictimOfTerms(const Sequence& sequence) const {
  const int64_t most = sequence.request->request.terms.max_pages;
  if (most == kUnlimited) return nullptr;
  int64_t pages = 0;
  int64_t sequences = 0;
  Sequence* last = nullptr;
  for (Sequence* other : running_) {
    if (!other->runnable() || other->request->account != sequence.request->account) continue;
    ++sequences;
    last = other;
    pages += other == &sequence ? kv::PagesFor(static_cast<int64_t>(sequence.tokens.size()))
                                : static_cast<int64_t>(other->lease.pages().size());
  }
  return pages > most && sequences > 1 ? last : nullptr;
}

// To the tenant's account. What a preemption makes run again is not charged again.
void Scheduler::Charge(Sequence& sequence, int64_t num_tokens, bool samples) {
  LiveRequest& live = *sequence.request;
  const int64_t end = std::min(sequence.computed + num_tokens, sequence.usage.prompt_tokens);
  if (end > sequence.charged) live.account->ChargePrompt(end - std::exchange(sequence.charged, end));
  if (samples) live.account->ChargeGenerated(1);
}

}  // namespace nibble::sched
