#include "server/liveness.h"

#include <utility>

namespace nibble::server {
namespace {

// Longer than any step: 512 tokens on one core, each attending to a full context of the largest model that a CPU
// serves.
constexpr sched::Nanos kLongestStep = 20'000'000'000;
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
