#include "server/vllm_service.h"

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kvcache/page.h"
#include "server/gated_service.h"
#include "server/rate_meter.h"
#include "server/streaming_call.h"
#include "server/tokenizer_stream.h"
#include "server/unary_call.h"
#include "server/vllm_kv_events.h"
#include "server/vllm_wire.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

namespace pb = vllm::grpc::engine;
namespace common = smg::grpc::common;
using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using grpc::ServerWriteReactor;

int32_t Int32(int64_t value) { return static_cast<int32_t>(value); }

pb::GetModelInfoResponse ModelInfo(const ServedModel& model) {
  const engine::TokenizerData& tokenizer = model.tokenizer->data();
  pb::GetModelInfoResponse info;
  // A gateway looks for a file of this name, then for a repository: no such name can be either.
  info.set_model_path(absl::StrCat("/nibbled/", model.name));
  info.set_served_model_name(model.name);
  info.set_is_generation(true);
  info.set_max_context_length(static_cast<uint32_t>(model.engine->context_length()));
  info.set_max_req_input_len(Int32(model.engine->context_length() - 1));
  info.set_vocab_size(static_cast<uint32_t>(model.engine->vocab_size()));
  info.set_model_type(model.architecture);
  for (const int32_t id : model.tokenizer->end_of_generation_ids()) info.add_eos_token_ids(id);
  if (tokenizer.pad >= 0) info.set_pad_token_id(tokenizer.pad);
  if (tokenizer.bos >= 0) info.set_bos_token_id(tokenizer.bos);
  return info;
}

// The contract's other methods are not served: UNIMPLEMENTED.
class VllmService final : public GatedService {
 public:
  explicit VllmService(Serving* serving)
      : GatedService(serving->gate, pb::VllmEngine::service_full_name()),
        serving_(serving),
        started_(serving->clock()),
        tokenizer_files_(*serving->model->tokenizer),
        kv_event_streams_(serving->limits.stall_timeout / 8, serving->clock) {
    AddStreaming("Generate", std::bind_front(&VllmService::Generate, this));
    AddStreaming("GetTokenizer", std::bind_front(&VllmService::GetTokenizer, this));
    AddStreaming("SubscribeKvEvents", std::bind_front(&VllmService::SubscribeKvEvents, this));
    AddUnary("HealthCheck", std::bind_front(&VllmService::HealthCheck, this));
    AddUnary("FlushCache", std::bind_front(&VllmService::FlushCache, this));
    AddUnary("Abort", std::bind_front(&VllmService::Abort, this));
    AddUnary("GetModelInfo", std::bind_front(&VllmService::GetModelInfo, this));
    AddUnary("GetServerInfo", std::bind_front(&VllmService::GetServerInfo, this));
    AddUnary("GetLoads", std::bind_front(&VllmService::GetLoads, this));
  }

 private:
  ServerWriteReactor<ByteBuffer>* Generate(const Caller& caller, CallbackServerContext* context,
                                           const ByteBuffer* request) {
    return StartStreamingCall(serving_, std::make_unique<VllmWire>(*serving_), caller, context, *request);
  }

  ServerWriteReactor<ByteBuffer>* GetTokenizer(const Caller&, CallbackServerContext*, const ByteBuffer*) {
    return TokenizerStream::Start(&tokenizer_files_);
  }

  ServerWriteReactor<ByteBuffer>* SubscribeKvEvents(const Caller&, CallbackServerContext* context,
                                                    const ByteBuffer* request) {
    return KvEventStream::Start(serving_, &kv_event_streams_, context, *request);
  }

  ServerUnaryReactor* HealthCheck(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                  ByteBuffer* response) {
    return AnswerNow<pb::HealthCheckRequest>(context, *request, response, [this](const pb::HealthCheckRequest&) {
      pb::HealthCheckResponse health;
      health.set_healthy(!serving_->draining);
      health.set_message(serving_->draining ? "draining" : "ready");
      return absl::StatusOr<pb::HealthCheckResponse>(health);
    });
  }

  ServerUnaryReactor* FlushCache(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                 ByteBuffer* response) {
    return AnswerNow<common::FlushCacheRequest>(context, *request, response, [this](const common::FlushCacheRequest&) {
      serving_->loop->FlushIndex();
      common::FlushCacheResponse flushed;
      flushed.set_success(true);
      return absl::StatusOr<common::FlushCacheResponse>(flushed);
    });
  }

  ServerUnaryReactor* Abort(const Caller& caller, CallbackServerContext* context, const ByteBuffer* request,
                            ByteBuffer* response) {
    return AnswerNow<pb::AbortRequest>(context, *request, response, [&](const pb::AbortRequest& message) {
      serving_->streams->Cancel(caller.tenant, {message.request_ids().begin(), message.request_ids().end()});
      return absl::StatusOr<pb::AbortResponse>(pb::AbortResponse());
    });
  }

  ServerUnaryReactor* GetModelInfo(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                   ByteBuffer* response) {
    return AnswerNow<pb::GetModelInfoRequest>(context, *request, response, [this](const pb::GetModelInfoRequest&) {
      return absl::StatusOr<pb::GetModelInfoResponse>(ModelInfo(*serving_->model));
    });
  }

  ServerUnaryReactor* GetServerInfo(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                                    ByteBuffer* response) {
    return AnswerNow<pb::GetServerInfoRequest>(context, *request, response, [this](const pb::GetServerInfoRequest&) {
      return absl::StatusOr<pb::GetServerInfoResponse>(ServerInfo());
    });
  }

  ServerUnaryReactor* GetLoads(const Caller&, CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) {
    return AnswerNow<pb::GetLoadsRequest>(context, *request, response,
                                          [this](const pb::GetLoadsRequest& message) { return Loads(message); });
  }

  pb::GetServerInfoResponse ServerInfo() const {
    const engine::Engine& engine = *serving_->model->engine;
    pb::GetServerInfoResponse info;
    info.set_active_requests(static_cast<uint32_t>(serving_->streams->size()));
    info.set_uptime_seconds(static_cast<double>(serving_->clock() - started_) * 1e-9);
    info.set_server_type("nibbled");
    info.set_data_parallel_size(1);
    info.set_kv_cache_dtype(serving_->model->kv_codec);
    info.set_block_size(kv::kPageTokens);
    info.set_max_num_seqs(Int32(engine.max_sequences()));
    return info;
  }

  absl::StatusOr<pb::GetLoadsResponse> Loads(const pb::GetLoadsRequest& request) {
    pb::GetLoadsResponse response;
    response.set_timestamp(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()));
    response.set_dp_rank_count(1);
    if (request.dp_rank() == 0) *response.add_loads() = Load();
    return response;
  }

  pb::SchedulerLoad Load() {
    const sched::Counters counters = serving_->loop->Snapshot();
    const int64_t used = counters.pages_total - counters.pages_free - counters.pages_cached;
    const int64_t waiting = counters.sequences_waiting + counters.sequences_paused;
    pb::SchedulerLoad load;
    load.set_num_running_reqs(Int32(counters.sequences_running));
    load.set_num_waiting_reqs(Int32(waiting));
    load.set_num_total_reqs(Int32(counters.sequences_running + waiting));
    load.set_num_used_tokens(Int32(used * kv::kPageTokens));
    load.set_max_total_num_tokens(Int32(counters.pages_total * kv::kPageTokens));
    load.set_token_usage(static_cast<double>(used) / static_cast<double>(counters.pages_total));
    load.set_gen_throughput(generated_.PerSecond(serving_->clock(), counters.generated_tokens));
    if (counters.prefix_queries_tokens > 0) {
      load.set_cache_hit_rate(static_cast<double>(counters.prefix_hits_tokens) /
                              static_cast<double>(counters.prefix_queries_tokens));
    }
    load.set_max_running_requests(Int32(serving_->model->engine->max_sequences()));
    load.set_num_waiting_uncached_tokens(Int32(counters.tokens_waiting));
    return load;
  }

  Serving* const serving_;
  const sched::Nanos started_;
  TokenizerFiles tokenizer_files_;
  RateMeter generated_;
  StreamRegistry kv_event_streams_;  // apart from answers, whose end a drain awaits
};

}  // namespace

std::unique_ptr<grpc::Service> MakeVllmService(Serving* serving) { return std::make_unique<VllmService>(serving); }

}  // namespace nibble::server
