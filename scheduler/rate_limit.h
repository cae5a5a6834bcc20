// A limit of so many a minute, a minute's worth of which may come at once: a token bucket, kept as the time at which it
// is full again. What was taken beyond it is a debt that has to pass first. Thread: one owner.
#ifndef NIBBLE_SCHEDULER_RATE_LIMIT_H_
#define NIBBLE_SCHEDULER_RATE_LIMIT_H_

#include <algorithm>
#include <cstdint>

#include "scheduler/request.h"

namespace nibble::sched {

class RateLimit {
 public:
  // How long until one may be taken; 0: now.
  Nanos Wait(int64_t per_minute, Nanos now) const {
    if (per_minute == kUnlimited) return 0;  // whatever was taken under another limit
    return std::max<Nanos>(0, full_at_ + kMinute / per_minute - now - kMinute);
  }
  void Take(int64_t amount, int64_t per_minute, Nanos now) {
    const Nanos each = kMinute / per_minute;
    const Nanos longest = kLongestDebtMinutes * kMinute;
    const Nanos taken = each == 0 ? 0 : std::min(amount, longest / each) * each;
    // A debt of later on is not made less by what began before it.
    full_at_ = std::max(full_at_, std::min(std::max(full_at_, now) + taken, now + longest));
  }
  // Nothing is missing: as if nothing had ever been taken.
  bool IsFull(Nanos now) const { return full_at_ <= now; }

 private:
  static constexpr Nanos kMinute = 60'000'000'000;
  static constexpr int64_t kLongestDebtMinutes = 60;

  Nanos full_at_ = 0;
};

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_RATE_LIMIT_H_
