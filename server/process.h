// What a daemon asks of its process: limits and signals.
#ifndef NIBBLE_SERVER_PROCESS_H_
#define NIBBLE_SERVER_PROCESS_H_

#include <cstdint>

#include "absl/time/time.h"
#include "server/daemon.h"

namespace nibble::server {

// No core files (prompts would be in them), as many open files as allowed up to `open_files`, no death by SIGPIPE, and
// large pieces of memory are the system's again when they are freed.
void PrepareProcess(int64_t open_files);

// Takes over SIGTERM and SIGINT for the rest of the process. Until SetServing, one of them ends the process with
// status 0: nothing is being served yet. Call first in main(), before any thread is started.
void WatchStopSignals();
// From now on the first signal lets WaitForStop return, and the second hurries `daemon`, which must never be destroyed.
// A process that has not ended `drain_timeout` and a few seconds after the first signal ends then, with status 1.
void SetServing(Daemon* daemon, absl::Duration drain_timeout);
void WaitForStop();

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_PROCESS_H_
