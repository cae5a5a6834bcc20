#include "server/liveness.h"

#include <utility>

namespace nibble::server {
namespace {

// Longer than any step: a full chunk of the longest context on the slowest target.
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
  absl::MutexLock lock(&mu_);
  if (!dialed_ || clock_() - dialed_at_ >= kDialPeriod) {
    answered_ = dial_();
    dialed_at_ = clock_();
    dialed_ = true;
  }
  return !answered_;
}

}  // namespace nibble::server
