#include "server/daemon.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"
#include "server/adapter_metrics.h"
#include "server/grpc_server.h"
#include "server/http_server.h"
#include "server/liveness.h"
#include "server/log.h"
#include "server/monotonic_clock.h"
#include "server/serving.h"
#include "server/tls_dial.h"

namespace nibble::server {
namespace {

constexpr absl::Duration kSelfDialTimeout = absl::Seconds(5);
// For streams that were cut short to take their status to the client.
constexpr absl::Duration kLastWords = absl::Seconds(1);

Capacity CapacityOf(const ServedModel& model, const DaemonOptions& options) {
  return {.kv_pages = model.engine->cache_shape().num_pages, .queue = options.scheduler.max_queue};
}

// Of one tenant: where there are several, none may fill what all wait in.
int64_t OwnQueue(const DaemonOptions& options) {
  const int64_t all = options.limits.intake_queue;
  return !options.identity.tenants.empty() ? std::max<int64_t>(1, all / 4) : all;
}

}  // namespace

// In the order in which it must be built; destroyed in the reverse order.
struct Daemon::Parts {
  Parts(std::unique_ptr<ServedModel> served, std::unique_ptr<Identity> of_callers, const DaemonOptions& options)
      : model(std::move(served)),
        identity(std::move(of_callers)),
        intake_budget(options.limits.intake_bytes),
        prompt_logprobs_budget(options.limits.prompt_logprobs_bytes),
        grammar_budget(options.limits.grammar_bytes),
        loop(model->engine.get(), options.scheduler, MonotonicNow),
        queue_high_water(std::max<int64_t>(1, options.scheduler.max_queue * 3 / 4)),
        metrics(model->name, {model->kv_codec, model->kv_bits, model->kv_costs}, [this] { return loop.Snapshot(); }),
        streams(options.limits.stall_timeout / 8, MonotonicNow),
        adapter_loads(/*threads=*/1, options.limits.intake_queue, OwnQueue(options)),
        intake(options.intake_threads, options.limits.intake_queue, OwnQueue(options)) {
    if (model->adapters != nullptr) {
      adapter_metrics.emplace(model->name, model->adapters.get(), options.scheduler.max_sequences);
    }
    serving.limits = options.limits;
    serving.retry_after = options.scheduler.retry_after;
    serving.clock = MonotonicNow;
    serving.has_memory = options.has_memory;
    serving.gate = &identity->gate();
    serving.certificates = identity->certificates();
    serving.model = model.get();
    serving.loop = &loop;
    serving.metrics = &metrics;
    serving.streams = &streams;
    serving.intake = &intake;
    serving.adapter_loads = &adapter_loads;
    serving.intake_budget = &intake_budget;
    serving.prompt_logprobs_budget = &prompt_logprobs_budget;
    serving.grammar_budget = &grammar_budget;
  }

  std::string RenderMetrics() {
    return adapter_metrics.has_value() ? metrics.Render() + adapter_metrics->Render() : metrics.Render();
  }
  HttpReply Live() {
    const std::string complaint = listening ? liveness->Complaint() : "";
    return complaint.empty() ? HttpReply{200, "alive\n"} : HttpReply{503, complaint + "\n"};
  }
  HttpReply Ready() const {
    if (!listening) return {503, "starting\n"};
    if (serving.draining) return {503, "draining\n"};
    // Others should be asked before this one has to refuse.
    if (loop.Snapshot().sequences_waiting >= queue_high_water) return {503, "queue above its high-water mark\n"};
    return {200, "ready\n"};
  }

  bool DialSelf() const {
    const bool tls = serving.certificates != nullptr;
    const bool answered =
        tls ? AnswersTls(grpc->address(), kSelfDialTimeout) : AnswersHealthCheck(grpc->address(), kSelfDialTimeout);
    return answered || grpc->full();  // a port that turns connections away is not deaf
  }

  // The port of requests last: where the other cannot be had, none was ever taken.
  absl::Status Listen(const DaemonOptions& options) {
    HttpServer::Handlers handlers;
    handlers["/metrics"] = [this] { return HttpReply{200, RenderMetrics()}; };
    handlers["/livez"] = [this] { return Live(); };
    handlers["/readyz"] = [this] { return Ready(); };
    NIBBLE_ASSIGN_OR_RETURN(http, HttpServer::Start(options.metrics, HttpOptions(), std::move(handlers)));
    NIBBLE_ASSIGN_OR_RETURN(grpc, GrpcServer::Start(options.listen, &serving));
    liveness = std::make_unique<Liveness>(&loop, MonotonicNow, [this] { return DialSelf(); });
    listening = true;
    return absl::OkStatus();
  }

  const std::unique_ptr<ServedModel> model;
  const std::unique_ptr<Identity> identity;
  MemoryBudget intake_budget;
  MemoryBudget prompt_logprobs_budget;
  MemoryBudget grammar_budget;
  Serving serving;
  sched::ServingLoop loop;
  const int64_t queue_high_water;  // waiting sequences from which on /readyz says no
  Metrics metrics;
  std::optional<AdapterMetrics> adapter_metrics;
  StreamRegistry streams;
  WorkQueue adapter_loads;
  WorkQueue intake;
  std::unique_ptr<GrpcServer> grpc;
  std::unique_ptr<Liveness> liveness;
  std::atomic<bool> listening = false;  // grpc and liveness are there
  std::unique_ptr<HttpServer> http;
  std::atomic<bool> drained = false;
};

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(std::unique_ptr<ServedModel> model,
                                                      const DaemonOptions& options) try {
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<Identity> identity,
                          Identity::Load(options.identity, CapacityOf(*model, options), options.limits));
  NIBBLE_RETURN_IF_ERROR(identity->Watch());
  auto parts = std::make_unique<Parts>(std::move(model), std::move(identity), options);
  parts->loop.Start();
  NIBBLE_RETURN_IF_ERROR(parts->Listen(options));
  return std::unique_ptr<Daemon>(new Daemon(std::move(parts)));
} catch (const std::system_error& error) {
  return absl::ResourceExhaustedError(absl::StrCat("threads: the system refuses one: ", error.what()));
}

Daemon::Daemon(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Daemon::~Daemon() {
  Hurry();
  Drain(absl::ZeroDuration());
}

const std::string& Daemon::grpc_address() const { return parts_->grpc->address(); }
const std::string& Daemon::metrics_address() const { return parts_->http->address(); }
sched::Counters Daemon::Snapshot() const { return parts_->loop.Snapshot(); }
int64_t Daemon::streams() const { return parts_->streams.size(); }
int64_t Daemon::health_watches() const { return parts_->grpc->watches(); }

void Daemon::Hurry() { parts_->streams.StopWaiting(); }

void Daemon::Drain(absl::Duration grace) {
  if (parts_->drained.exchange(true)) return;
  LogInfo("draining", {{"streams", streams()}});
  parts_->serving.draining = true;
  parts_->loop.BeginDrain();
  parts_->grpc->BeginDrain();
  parts_->streams.AwaitEmptyOrStop(grace);
  parts_->loop.Stop();
  if (!parts_->streams.AwaitEmpty(kLastWords)) parts_->streams.ResetAll();
  parts_->grpc->Shutdown(kLastWords);
}

}  // namespace nibble::server
