#include "scheduler/fair_share.h"

#include <algorithm>
#include <limits>

#include "kvcache/base/check.h"

namespace nibble::sched {

FairAccount* FairShare::Join(const std::string& tenant, double weight) {
  NIBBLE_CHECK(weight > 0.0);
  const auto found = accounts_.find(tenant);
  const bool present = found != accounts_.end() && found->second.live_requests > 0;
  const double lift = present ? 0.0 : SmallestPresent();
  if (found == accounts_.end()) {
    absl::erase_if(accounts_, [lift](const auto& entry) {
      return entry.second.live_requests == 0 && entry.second.served <= lift;  // it would be lifted as a new one is
    });
  }
  FairAccount& account = accounts_[tenant];
  account.served = std::max(account.served, lift);
  account.weight = weight;
  if (++account.live_requests == 1) account.joined = ++comings_;
  return &account;
}

void FairShare::Leave(FairAccount& account) {
  NIBBLE_CHECK(account.live_requests > 0);
  if (--account.live_requests == 0) last_left_ = account.served;
}

double FairShare::SmallestPresent() const {
  double smallest = std::numeric_limits<double>::infinity();
  for (const auto& [tenant, account] : accounts_) {
    if (account.live_requests > 0) smallest = std::min(smallest, account.served);
  }
  return smallest == std::numeric_limits<double>::infinity() ? last_left_ : smallest;
}

void FairShare::ClearRunning() {
  for (auto& [tenant, account] : accounts_) account.running = {};
}

}  // namespace nibble::sched
