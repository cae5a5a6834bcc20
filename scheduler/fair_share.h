// Who was given how much: virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", 2024,
// arXiv 2401.00588). A tenant's counter grows by 1 for each prompt token that is computed for it (found in the prefix
// index: 0) and by 2 for each token generated, divided by its weight. Whoever has work and the smallest counter is
// next; who comes back is lifted to the smallest counter of those that are there, so that an absence earns nothing.
// Thread: one owner.
#ifndef NIBBLE_SCHEDULER_FAIR_SHARE_H_
#define NIBBLE_SCHEDULER_FAIR_SHARE_H_

#include <cstdint>
#include <string>

#include "absl/container/node_hash_map.h"

namespace nibble::sched {

// One tenant's account.
struct FairAccount {
  static constexpr double kPromptCost = 1.0;
  static constexpr double kGeneratedCost = 2.0;

  void ChargePrompt(int64_t tokens) { served += kPromptCost * static_cast<double>(tokens) / weight; }
  void ChargeGenerated(int64_t tokens) { served += kGeneratedCost * static_cast<double>(tokens) / weight; }
  // What the counter will be when the prompts that run now are computed.
  double claimed() const { return served + kPromptCost * static_cast<double>(running.prompt_tokens) / weight; }

  double served = 0.0;
  double weight = 1.0;  // > 0
  int64_t live_requests = 0;
  uint64_t joined = 0;  // the number of its last coming; whoever came later has the larger
  // Of the tenant's running sequences, paused ones left out; whoever reads it counts them first.
  struct Running {
    int64_t sequences = 0;
    int64_t pages = 0;          // shared ones once for each holder
    int64_t prompt_tokens = 0;  // still to be computed
  } running;
};

class FairShare {
 public:
  // One more request of the tenant is live. The account stays where it is until as many have left.
  FairAccount* Join(const std::string& tenant, double weight);
  // REQUIRES: a live request.
  void Leave(FairAccount& account);

  // Forgets what is counted in `running`, of all tenants that are there.
  void ClearRunning();
  // Accounts kept. Of tenants that are not there only those are whose return their past could change.
  int64_t size() const { return static_cast<int64_t>(accounts_.size()); }

 private:
  double SmallestPresent() const;

  absl::node_hash_map<std::string, FairAccount> accounts_;
  double last_left_ = 0.0;  // counter of the tenant that left last
  uint64_t comings_ = 0;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_FAIR_SHARE_H_
