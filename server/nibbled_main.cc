// The daemon's command line.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/tools/byte_size.h"
#include "engine/tools/command.h"
#include "kvcache/base/status_macros.h"
#include "server/daemon.h"
#include "server/load_model.h"
#include "server/log.h"
#include "server/memory_limit.h"
#include "server/memory_reserve.h"
#include "server/process.h"

ABSL_FLAG(std::string, model, "", "model: a GGUF file, a Hugging Face folder, or a file of `nibble quantize`");
ABSL_FLAG(std::string, served_model_name, "", "name that clients use; default: the file's name");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051", "gRPC address; port 0 picks a free one");
ABSL_FLAG(std::string, metrics, "127.0.0.1:9090", "HTTP address of /metrics, /livez and /readyz");
ABSL_FLAG(std::string, kv, "f16", "KV codec");
ABSL_FLAG(std::string, kv_calibration, "",
          "file of `nibble calibrate` for this model (.nibblekv); the codecs cq* and klt* need one");
ABSL_FLAG(nibble::engine::ByteSize, kv_memory, {int64_t{256} << 20}, "memory for KV pages: 512MiB, 4GiB, ...");
ABSL_FLAG(std::string, weights, "file", "weights: file, w8, w4 or f32");
ABSL_FLAG(std::string, activations, "", "activations: a8, a4 or f32; default: f32 where the weights are f32, else a8");
ABSL_FLAG(std::string, adapters, "", "folder of deltas (`nibble delta compress`): NAME.safetensors serves as NAME");
ABSL_FLAG(nibble::engine::ByteSize, adapter_memory, {int64_t{1} << 30}, "memory for adapters: 512MiB, 4GiB, ...");
ABSL_FLAG(std::vector<std::string>, pinned_adapters, {}, "adapters that are loaded at once and never evicted");
ABSL_FLAG(int, threads, 0, "threads that compute; 0: one per core");
ABSL_FLAG(int64_t, max_sequences, 64, "sequences that run at once");
ABSL_FLAG(int64_t, step_tokens, 512, "token budget of one step");
ABSL_FLAG(int64_t, max_queue, 1024, "requests that may wait");
ABSL_FLAG(int64_t, max_connections, nibble::server::Limits().connections,
          "connections at once; each counts in the memory that the daemon's cgroup must allow");
ABSL_FLAG(
    std::string, tenants, "",
    "tenants file: who may call, and how much (proto/nibble/config/tenants.proto); reloaded when it changes; default: "
    "anyone may");
ABSL_FLAG(
    std::string, tls_cert, "",
    "PEM file: the server's certificate, then those that lead to its CA; reloaded when it changes; default: no TLS");
ABSL_FLAG(std::string, tls_key, "", "PEM file: the certificate's key, which others must not be able to read");
ABSL_FLAG(std::string, tls_client_ca, "", "PEM file: CAs of which clients must have a certificate");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(60), "after SIGTERM, time for running streams to finish");

namespace nibble::server {
namespace {

absl::Status CheckRange(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be within [", low, ", ", high, "]"));
}

absl::Status CheckTls() {
  const bool certificate = !absl::GetFlag(FLAGS_tls_cert).empty();
  if (certificate != !absl::GetFlag(FLAGS_tls_key).empty()) {
    return absl::InvalidArgumentError("--tls-cert, --tls-key: one is nothing without the other");
  }
  if (!absl::GetFlag(FLAGS_tls_client_ca).empty() && !certificate) {
    return absl::InvalidArgumentError("--tls-client-ca: needs --tls-cert and --tls-key");
  }
  return absl::OkStatus();
}

absl::Status CheckFlags() {
  if (absl::GetFlag(FLAGS_model).empty()) return absl::InvalidArgumentError("--model: required");
  NIBBLE_RETURN_IF_ERROR(CheckRange("threads", absl::GetFlag(FLAGS_threads), 0, 1024));
  NIBBLE_RETURN_IF_ERROR(CheckRange("max-sequences", absl::GetFlag(FLAGS_max_sequences), 1, 4096));
  NIBBLE_RETURN_IF_ERROR(CheckRange("step-tokens", absl::GetFlag(FLAGS_step_tokens), 1, 1 << 20));
  NIBBLE_RETURN_IF_ERROR(CheckRange("max-queue", absl::GetFlag(FLAGS_max_queue), 1, 1 << 20));
  NIBBLE_RETURN_IF_ERROR(
      CheckRange("max-connections", absl::GetFlag(FLAGS_max_connections), 1, Limits().open_files / 2));
  if (absl::GetFlag(FLAGS_step_tokens) < absl::GetFlag(FLAGS_max_sequences)) {
    return absl::InvalidArgumentError("--step-tokens: below --max-sequences, so not every sequence could decode");
  }
  if (absl::GetFlag(FLAGS_adapters).empty() && !absl::GetFlag(FLAGS_pinned_adapters).empty()) {
    return absl::InvalidArgumentError("--pinned-adapters: needs --adapters");
  }
  if (absl::GetFlag(FLAGS_drain_timeout) < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("--drain-timeout: negative");
  }
  return CheckTls();
}

IdentityOptions IdentityFromFlags() {
  return {.tenants = absl::GetFlag(FLAGS_tenants),
          .tls = {.certificate = absl::GetFlag(FLAGS_tls_cert),
                  .key = absl::GetFlag(FLAGS_tls_key),
                  .client_ca = absl::GetFlag(FLAGS_tls_client_ca)}};
}

absl::StatusOr<LoadOptions> LoadOptionsFromFlags() {
  LoadOptions options;
  options.path = absl::GetFlag(FLAGS_model);
  options.served_name = absl::GetFlag(FLAGS_served_model_name);
  options.kv_calibration = absl::GetFlag(FLAGS_kv_calibration);
  engine::EngineOptions& engine = options.engine;
  NIBBLE_ASSIGN_OR_RETURN(engine.weights, engine::ParseWeightMode(absl::GetFlag(FLAGS_weights)));
  std::string activations = absl::GetFlag(FLAGS_activations);
  if (activations.empty()) activations = engine.weights == engine::WeightMode::kF32 ? "f32" : "a8";
  NIBBLE_ASSIGN_OR_RETURN(engine.activations, engine::ParseActivationMode(activations));
  engine.kv_codec = absl::GetFlag(FLAGS_kv);
  engine.kv_memory_bytes = absl::GetFlag(FLAGS_kv_memory).bytes;
  const int threads = absl::GetFlag(FLAGS_threads);
  engine.threads = threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (const char* isa = std::getenv("NIBBLE_ISA")) engine.isa = isa;
  engine.max_sequences = absl::GetFlag(FLAGS_max_sequences);
  engine.step_tokens = absl::GetFlag(FLAGS_step_tokens);
  options.adapters = absl::GetFlag(FLAGS_adapters);
  options.adapter_memory_bytes = absl::GetFlag(FLAGS_adapter_memory).bytes;
  options.pinned_adapters = absl::GetFlag(FLAGS_pinned_adapters);
  return options;
}

DaemonOptions DaemonOptionsFromFlags(const ServedModel& model) {
  DaemonOptions options;
  options.listen = absl::GetFlag(FLAGS_listen);
  options.metrics = absl::GetFlag(FLAGS_metrics);
  options.identity = IdentityFromFlags();
  options.limits.connections = absl::GetFlag(FLAGS_max_connections);
  options.scheduler.max_sequences = absl::GetFlag(FLAGS_max_sequences);
  options.scheduler.step_tokens = absl::GetFlag(FLAGS_step_tokens);
  options.scheduler.max_queue = absl::GetFlag(FLAGS_max_queue);
  options.scheduler.cache_salt = absl::StrCat(model.name, "/", model.kv_codec);
  return options;
}

// `model_bytes` so far: what cannot be is found before the model is read, and again once it was.
absl::Status CheckMemoryFor(int64_t model_bytes) {
  const bool adapters = !absl::GetFlag(FLAGS_adapters).empty();
  return CheckMemory({.model = model_bytes,
                      .kv_pages = absl::GetFlag(FLAGS_kv_memory).bytes,
                      .adapters = adapters ? absl::GetFlag(FLAGS_adapter_memory).bytes : 0,
                      .connections = absl::GetFlag(FLAGS_max_connections)},
                     Limits(), CgroupMemoryLimit());
}

// No KV page is written yet; pinned adapters are part of --adapter-memory.
int64_t BytesOf(ServedModel& model) {
  const int64_t adapters = model.adapters == nullptr ? 0 : model.adapters->Counts().bytes;
  return std::max<int64_t>(0, ResidentBytes() - adapters) + model.workspace_bytes;
}

absl::Status Serve(const std::vector<std::string>&) {
  NIBBLE_RETURN_IF_ERROR(CheckFlags());
  NIBBLE_RETURN_IF_ERROR(CheckMemoryFor(0));
  PrepareProcess(Limits().open_files);
  // Before the model, which takes its time; what shares are shares of is not known yet.
  NIBBLE_RETURN_IF_ERROR(Identity::Load(IdentityFromFlags(), Capacity{}, Limits{}).status());
  NIBBLE_ASSIGN_OR_RETURN(const LoadOptions load_options, LoadOptionsFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<ServedModel> model, LoadModel(load_options));
  const std::string name = model->name;
  const absl::Status chat = model->chat_template.status();
  const int64_t pages = model->engine->cache_shape().num_pages;
  const DaemonOptions options = DaemonOptionsFromFlags(*model);
  NIBBLE_RETURN_IF_ERROR(CheckMemoryFor(BytesOf(*model)));
  PutMemoryAside();
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<Daemon> started, Daemon::Start(std::move(model), options));
  Daemon* daemon = started.release();  // until the process ends: signals may come at any time
  SetServing(daemon, absl::GetFlag(FLAGS_drain_timeout));
  std::printf("ready grpc=%s metrics=%s model=%s kv=%s pages=%lld\n", daemon->grpc_address().c_str(),
              daemon->metrics_address().c_str(), name.c_str(), load_options.engine.kv_codec.c_str(),
              static_cast<long long>(pages));
  std::fflush(stdout);
  if (!chat.ok()) LogInfo("chat unavailable", {{"reason", chat.message()}});
  WaitForStop();
  daemon->Drain(absl::GetFlag(FLAGS_drain_timeout));
  LogInfo("stopped");
  std::fflush(nullptr);
  std::_Exit(0);  // static destructors would pull the ground from under threads that still run
}

const engine::Command kServe = {
    .name = "",
    .summary = "Serves a model over gRPC.",
    .arguments = "--model FILE [--listen HOST:PORT] [--metrics HOST:PORT]",
    .flags = {"model",          "served-model-name", "listen",  "metrics",       "kv",
              "kv-calibration", "kv-memory",         "weights", "activations",   "adapters",
              "adapter-memory", "pinned-adapters",   "threads", "max-sequences", "step-tokens",
              "max-queue",      "max-connections",   "tenants", "tls-cert",      "tls-key",
              "tls-client-ca",  "drain-timeout"},
    .run = Serve};

}  // namespace
}  // namespace nibble::server

int main(int argc, char** argv) {
  nibble::server::EndWhereMemoryEnds();
  nibble::server::WatchStopSignals();
  return nibble::engine::RunCommand("nibbled", nibble::server::kServe, argc, argv);
}
