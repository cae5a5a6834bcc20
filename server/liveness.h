// Whether the daemon still does its work: the engine makes progress and the gRPC port takes new connections. Never says
// anything about load. Any thread. The dial is repeated at most once per second however often it is asked; whoever asks
// while another dials hears what the last dial found.
#ifndef NIBBLE_SERVER_LIVENESS_H_
#define NIBBLE_SERVER_LIVENESS_H_

#include <functional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "scheduler/serving_loop.h"

namespace nibble::server {

class Liveness {
 public:
  // `dial` connects to the daemon's own port and says whether it answered.
  Liveness(const sched::ServingLoop* loop, std::function<sched::Nanos()> clock, std::function<bool()> dial);

  // Empty: alive. Otherwise what is wrong, in a word or two.
  std::string Complaint();

 private:
  bool EngineStuck() const;
  bool PortDeaf();

  const sched::ServingLoop* const loop_;
  const std::function<sched::Nanos()> clock_;
  const std::function<bool()> dial_;
  absl::Mutex mu_;
  bool dialing_ ABSL_GUARDED_BY(mu_) = false;
  bool answered_ ABSL_GUARDED_BY(mu_) = true;
  sched::Nanos dial_again_at_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LIVENESS_H_
