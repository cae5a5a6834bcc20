// Keeps long work beside the serving loop from taking the cores of running sequences: while steps run, it works a
// quarter of the time, in pieces far shorter than a step. (A share like a worker's own, which the system would give it,
// stops all workers half of the time, for they wait for one another.) One thread.
#ifndef NIBBLE_SERVER_LOAD_PACE_H_
#define NIBBLE_SERVER_LOAD_PACE_H_

#include <functional>
#include <utility>

#include "scheduler/request.h"

namespace nibble::server {

class LoadPace {
 public:
  static constexpr sched::Nanos kPiece = 200'000;  // a rest for less would take longer than it should
  static constexpr int kRest = 3;                  // times what was worked

  // `busy`: whether a step runs now. `clock`: what the thread has worked, so that waiting for a disk or a core is not
  // made up for. `sleep` takes the time to sleep.
  LoadPace(std::function<bool()> busy, std::function<sched::Nanos()> clock, std::function<void(sched::Nanos)> sleep)
      : busy_(std::move(busy)), clock_(std::move(clock)), sleep_(std::move(sleep)), woke_(clock_()) {}

  // Between two pieces of the work.
  void Pause() {
    const sched::Nanos worked = clock_() - woke_;
    if (worked < kPiece) return;
    if (busy_()) sleep_(kRest * worked);
    woke_ = clock_();
  }

 private:
  const std::function<bool()> busy_;
  const std::function<sched::Nanos()> clock_;
  const std::function<void(sched::Nanos)> sleep_;
  sched::Nanos woke_;  // when the work at hand began
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LOAD_PACE_H_
