// A serving daemon, from model to ports: owns everything and takes it down in order. One per process is usual; tests
// run several.
#ifndef NIBBLE_SERVER_DAEMON_H_
#define NIBBLE_SERVER_DAEMON_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/serving_loop.h"
#include "server/identity.h"
#include "server/limits.h"
#include "server/memory_reserve.h"
#include "server/served_model.h"

namespace nibble::server {

struct DaemonOptions {
  std::string listen = "127.0.0.1:50051";
  std::string metrics = "127.0.0.1:9090";
  IdentityOptions identity;
  sched::SchedulerOptions scheduler;
  Limits limits;
  int intake_threads = 2;
  std::function<bool()> has_memory = RestoreMemoryReserve;  // any thread: whether new requests may come
};

class Daemon {
 public:
  // Serves when it returns. UNAVAILABLE: a port cannot be had. RESOURCE_EXHAUSTED: the system refuses a thread.
  // Errors of files name them.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(std::unique_ptr<ServedModel> model,
                                                       const DaemonOptions& options);
  // Ends what still runs.
  ~Daemon();

  const std::string& grpc_address() const;
  const std::string& metrics_address() const;
  sched::Counters Snapshot() const;
  int64_t streams() const;
  int64_t health_watches() const;

  // Any thread. Health NOT_SERVING and new requests refused with UNAVAILABLE; waits for running streams, but no longer
  // than `grace`, and ends what is left with UNAVAILABLE; then GOAWAY and the end of the port. Once. GOAWAY comes last
  // because gRPC answers a request that crosses it with CANCELLED, which no client tries again.
  void Drain(absl::Duration grace);
  // Any thread; never waits. Lets Drain, running or yet to come, wait for no stream.
  void Hurry();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_DAEMON_H_
