#include "server/process.h"

#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/log.h"

namespace nibble::server {
namespace {

// After the second signal, for whatever does not end by itself.
constexpr unsigned kLastSeconds = 3;
// After the drain's time, for its last words and for a step that cannot be interrupted.
constexpr absl::Duration kOvertime = absl::Seconds(5);

struct StopState {
  absl::Mutex mu;
  Daemon* daemon ABSL_GUARDED_BY(mu) = nullptr;
  absl::Duration drain_timeout ABSL_GUARDED_BY(mu);
  int signals ABSL_GUARDED_BY(mu) = 0;
};

StopState& State() {
  static auto* const state = new StopState;
  return *state;
}

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

void EndAfter(absl::Duration timeout) {
  std::thread([timeout] {
    absl::SleepFor(timeout);
    LogInfo("the drain took too long");
    std::_Exit(1);
  }).detach();
}

// The daemon to hurry, if this is not the first signal.
Daemon* CountSignal() {
  absl::MutexLock lock(&State().mu);
  if (State().daemon == nullptr) {
    LogInfo("stopped before serving");
    std::_Exit(0);
  }
  if (++State().signals > 1) return State().daemon;
  EndAfter(State().drain_timeout + kOvertime);
  return nullptr;
}

void OnSignal() {
  Daemon* const hurried = CountSignal();
  if (hurried == nullptr) return;
  hurried->Hurry();
  sleep(kLastSeconds);
  std::_Exit(0);
}

}  // namespace

void PrepareProcess(int64_t open_files) {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::max(files.rlim_cur, std::min<rlim_t>(files.rlim_max, open_files));
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  // An adapter's file goes back to the system once it is loaded; left alone, glibc learns to keep pieces of its size.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

void WatchStopSignals() {
  static const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([] {
    while (true) {
      int signal = 0;
      if (sigwait(&signals, &signal) == 0) OnSignal();
    }
  }).detach();
}

void SetServing(Daemon* daemon, absl::Duration drain_timeout) {
  absl::MutexLock lock(&State().mu);
  State().daemon = daemon;
  State().drain_timeout = drain_timeout;
}

void WaitForStop() {
  StopState& state = State();
  const auto asked = [&state]() ABSL_SHARED_LOCKS_REQUIRED(state.mu) { return state.signals > 0; };
  absl::MutexLock lock(&state.mu);
  state.mu.Await(absl::Condition(&asked));
}

}  // namespace nibble::server
