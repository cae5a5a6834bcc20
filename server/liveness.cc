#include "server/liveness.h"

#include <utility>

namespace nibble::server {
namespace {

// Longer than any step: a full one, 512 tokens through 7e9 weights, is 7e12 operations, two minutes of one slow core.
constexpr sched::Nanos kLongestStep = 300'000'000'000;
constexpr sched::Nanos kDialPeriod = 1'000'000'000;

}  // namespace

Liveness::Liveness(const sched::ServingLoop* loop, std::function<sched::Nanos()> clock, std::function<bool()> dial)
    : loop_(loop), clock_(std::move(clock)), dial_(std::move(dial)) {}

std::string Liveness::Complaint() {
  if (EngineStuck()) return "engine stuck";
  return PortDeaf() ? "gRPC port deaf" : "";
}

bool Liveness::EngineStuck() const {
  const sched::ServingLoop::Heartbeat heartbeat = loop_->heartbeat();
  return heartbeat.has_work && clock_() - heartbeat.last_step > kLongestStep;
}

bool Liveness::PortDeaf() {
  {
    absl::MutexLock lock(&mu_);
    if (dialing_ || clock_() < dial_again_at_) return !answered_;
    dialing_ = true;
  }
  const bool answered = dial_();
  absl::MutexLock lock(&mu_);
  dialing_ = false;
  answered_ = answered;
  dial_again_at_ = clock_() + kDialPeriod;
  return !answered_;
}

}  // namespace nibble::server
