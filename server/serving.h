// What every RPC of a running daemon shares. Owned by Daemon; outlives every RPC.
#ifndef NIBBLE_SERVER_SERVING_H_
#define NIBBLE_SERVER_SERVING_H_

#include <atomic>
#include <functional>

#include "scheduler/serving_loop.h"
#include "server/gate.h"
#include "server/limits.h"
#include "server/memory_budget.h"
#include "server/metrics.h"
#include "server/served_model.h"
#include "server/stream_registry.h"
#include "server/tls_credentials.h"
#include "server/work_queue.h"

namespace nibble::server {

struct Serving {
  Limits limits;
  sched::Nanos retry_after = 0;         // hint sent with RESOURCE_EXHAUSTED
  std::function<sched::Nanos()> clock;  // monotonic
  std::function<bool()> has_memory;     // for new requests
  const Gate* gate = nullptr;
  TlsCertificates* certificates = nullptr;  // null: the port is plaintext
  const ServedModel* model = nullptr;
  sched::ServingLoop* loop = nullptr;
  Metrics* metrics = nullptr;
  StreamRegistry* streams = nullptr;
  WorkQueue* intake = nullptr;
  WorkQueue* adapter_loads = nullptr;  // of one thread: what reads adapters
  MemoryBudget* intake_budget = nullptr;
  MemoryBudget* prompt_logprobs_budget = nullptr;
  MemoryBudget* grammar_budget = nullptr;
  std::atomic<bool> draining = false;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_SERVING_H_
