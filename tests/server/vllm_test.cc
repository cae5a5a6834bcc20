// vllm.grpc.engine.VllmEngine: the contract's request against the native one, and what a gateway asks beside it.
#include <zip.h>

#include <algorithm>

#include "engine/weights/sha256.h"
#include "nlohmann/json.hpp"
#include "tests/server/server_fixture.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

namespace pb = vllm::grpc::engine;
namespace common = smg::grpc::common;
using grpc::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

struct VllmReply {
  grpc::Status status;
  std::vector<pb::GenerateStreamChunk> chunks;
  std::vector<pb::GenerateComplete> complete;
  std::vector<uint32_t> ids;  // of choice 0, from chunks
};

class ServerVllm : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    vllm_ = pb::VllmEngine::NewStub(NewChannel());
  }

  static pb::GenerateRequest AskIds(const std::string& text, uint32_t max_tokens, bool stream) {
    pb::GenerateRequest request;
    for (const char c : text) request.mutable_tokenized()->add_input_ids(static_cast<unsigned char>(c));
    request.mutable_sampling_params()->set_temperature(0.0f);
    request.mutable_sampling_params()->set_max_tokens(max_tokens);
    request.set_stream(stream);
    return request;
  }

  VllmReply Run(const pb::GenerateRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const auto reader = vllm_->Generate(&context, request);
    VllmReply reply;
    pb::GenerateResponse response;
    while (reader->Read(&response)) {
      if (response.has_complete()) {
        reply.complete.push_back(response.complete());
        continue;
      }
      reply.chunks.push_back(response.chunk());
      if (response.chunk().index() != 0) continue;
      reply.ids.insert(reply.ids.end(), response.chunk().token_ids().begin(), response.chunk().token_ids().end());
    }
    reply.status = reader->Finish();
    return reply;
  }

  grpc::Status RefusalOf(const std::function<void(pb::GenerateRequest&)>& change) {
    pb::GenerateRequest request = AskIds("hello", 4, true);
    change(request);
    const VllmReply reply = Run(request);
    EXPECT_THAT(reply.chunks, IsEmpty());
    return reply.status;
  }

  pb::SchedulerLoad Load() {
    grpc::ClientContext context;
    pb::GetLoadsResponse response;
    EXPECT_TRUE(vllm_->GetLoads(&context, pb::GetLoadsRequest(), &response).ok());
    EXPECT_THAT(response.loads(), SizeIs(1));
    return response.loads(0);
  }

  void Abort(const std::vector<std::string>& ids) {
    pb::AbortRequest request;
    request.mutable_request_ids()->Add(ids.begin(), ids.end());
    grpc::ClientContext context;
    pb::AbortResponse response;
    EXPECT_TRUE(vllm_->Abort(&context, request, &response).ok());
  }

  std::unique_ptr<pb::VllmEngine::Stub> vllm_;
};

TEST_F(ServerVllm, AnswersAsTheNativeServiceDoes) {
  const Reply native = Generate(Ask("hello", 6));
  const VllmReply streamed = Run(AskIds("hello", 6, true));
  ASSERT_TRUE(streamed.status.ok()) << streamed.status.error_message();
  EXPECT_EQ(streamed.ids, std::vector<uint32_t>(native.ids.begin(), native.ids.end()));
  ASSERT_THAT(streamed.complete, SizeIs(1));
  EXPECT_THAT(streamed.complete[0].output_ids(), IsEmpty()) << "they were streamed";
  EXPECT_EQ(streamed.complete[0].finish_reason(), "length");
  EXPECT_EQ(streamed.complete[0].prompt_tokens(), 5u);
  EXPECT_EQ(streamed.complete[0].completion_tokens(), 6u);
  uint32_t counted = 0;
  for (const auto& chunk : streamed.chunks) counted += chunk.completion_tokens();
  EXPECT_EQ(counted, 6u);

  const VllmReply whole = Run(AskIds("hello", 6, false));
  EXPECT_THAT(whole.chunks, IsEmpty());
  ASSERT_THAT(whole.complete, SizeIs(1));
  EXPECT_TRUE(std::equal(native.ids.begin(), native.ids.end(), whole.complete[0].output_ids().begin(),
                         whole.complete[0].output_ids().end()));
  EXPECT_EQ(whole.complete[0].finish_reason(), "length");

  pb::GenerateRequest text = AskIds("", 6, true);
  text.set_text("hello");
  EXPECT_EQ(Run(text).ids, streamed.ids);
}

TEST_F(ServerVllm, EachChoiceIsWhole) {
  pb::GenerateRequest request = AskIds("hello", 5, false);
  request.mutable_sampling_params()->set_n(3);
  const VllmReply reply = Run(request);
  ASSERT_THAT(reply.complete, SizeIs(3));
  std::vector<uint32_t> indices;
  for (const auto& complete : reply.complete) {
    EXPECT_THAT(complete.output_ids(), SizeIs(5));
    indices.push_back(complete.index());
  }
  std::sort(indices.begin(), indices.end());
  EXPECT_THAT(indices, ElementsAre(0u, 1u, 2u));
}

TEST_F(ServerVllm, WhatStoppedItIsTold) {
  engine_->SetScript([](const engine::SampleRequest& request) -> int32_t {
    return "one STOP two"[std::min<size_t>(request.generated.size(), 11)];
  });
  pb::GenerateRequest request = AskIds("hello", 50, false);
  request.mutable_sampling_params()->add_stop("STOP");
  VllmReply reply = Run(request);
  ASSERT_THAT(reply.complete, SizeIs(1));
  EXPECT_EQ(reply.complete[0].finish_reason(), "stop");
  EXPECT_EQ(reply.complete[0].matched_stop_str(), "STOP");
  request.mutable_sampling_params()->clear_stop();
  request.mutable_sampling_params()->add_stop_token_ids('S');
  reply = Run(request);
  ASSERT_THAT(reply.complete, SizeIs(1));
  EXPECT_EQ(reply.complete[0].matched_token_id(), uint32_t{'S'});
  EXPECT_THAT(reply.complete[0].output_ids(), ElementsAre('o', 'n', 'e', ' '));
  engine_->SetScript(nullptr);
}

TEST_F(ServerVllm, ErrorsNameTheContractsFields) {
  const auto sampling = [](auto change) {
    return [change](pb::GenerateRequest& request) { change(*request.mutable_sampling_params()); };
  };
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.set_top_p(1.5f); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.top_p"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.set_top_k(3'000'000'000u); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.top_k"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.set_n(99); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.n"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.set_max_tokens(4'000'000'000u); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.max_tokens"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.add_stop(""); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.stop"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.add_stop_token_ids(4'000'000'000u); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.stop_token_ids"));
  EXPECT_THAT(RefusalOf(sampling([](auto& s) { s.set_logprobs(-1); })),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "sampling_params.logprobs"));
  EXPECT_THAT(RefusalOf([](auto& r) { r.mutable_tokenized()->add_input_ids(288); }),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "tokenized.input_ids"));
  EXPECT_THAT(RefusalOf([](auto& r) { r.mutable_tokenized()->clear_input_ids(); }),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "tokenized.input_ids"));
  EXPECT_THAT(RefusalOf([](auto& r) { r.clear_input(); }), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "input"));
  EXPECT_THAT(RefusalOf([](auto& r) { r.set_data_parallel_rank(1); }),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "data_parallel_rank"));
}

TEST_F(ServerVllm, WhatNibbleHasNotIsRefusedAndNotIgnored) {
  const std::pair<const char*, std::function<void(pb::GenerateRequest&)>> kCases[] = {
      {"sampling_params.structural_tag", [](auto& r) { r.mutable_sampling_params()->set_structural_tag("a"); }},
      {"truncate_prompt_tokens", [](auto& r) { r.mutable_sampling_params()->set_truncate_prompt_tokens(3); }},
      {"mm_inputs", [](auto& r) { r.mutable_mm_inputs(); }},
      {"extra_mm_inputs", [](auto& r) { r.add_extra_mm_inputs(); }},
      {"media_refs", [](auto& r) { r.mutable_media_refs(); }},
      {"kv_transfer_params", [](auto& r) { r.mutable_kv_transfer_params(); }},
      {"kv_transfer_params_json", [](auto& r) { r.set_kv_transfer_params_json("{}"); }},
  };
  for (const auto& [field, change] : kCases) {
    EXPECT_THAT(RefusalOf(change), GrpcStatusIs(StatusCode::UNIMPLEMENTED, field));
  }
}

class ServerVllmSlowSteps : public ServerVllm {
 protected:
  void SetUp() override {
    engine_options_.step_time = absl::Milliseconds(2);
    ServerVllm::SetUp();
  }
};

TEST_F(ServerVllmSlowSteps, AbortEndsTheNamedStreamAndNoOther) {
  pb::GenerateRequest request = AskIds("hello", 1000, true);  // two seconds
  request.set_request_id("mine");
  grpc::ClientContext mine_context, other_context;
  const auto mine = vllm_->Generate(&mine_context, request);
  pb::GenerateResponse response;
  ASSERT_TRUE(mine->Read(&response));
  request.set_request_id("other");
  request.mutable_sampling_params()->set_max_tokens(20);
  const auto other = vllm_->Generate(&other_context, request);
  ASSERT_TRUE(other->Read(&response));
  Abort({"", "never seen", "mine"});
  while (mine->Read(&response)) {
  }
  EXPECT_EQ(mine->Finish().error_code(), StatusCode::CANCELLED);
  bool complete = false;
  while (other->Read(&response)) complete |= response.has_complete();
  EXPECT_TRUE(other->Finish().ok());
  EXPECT_TRUE(complete);
  EXPECT_TRUE(Eventually([this] { return Load().num_total_reqs() == 0; }));
}

TEST_F(ServerVllm, InfoLoadAndHealth) {
  grpc::ClientContext info_context, server_context, health_context, flush_context;
  pb::GetModelInfoResponse info;
  ASSERT_TRUE(vllm_->GetModelInfo(&info_context, pb::GetModelInfoRequest(), &info).ok());
  EXPECT_EQ(info.served_model_name(), "tiny");
  EXPECT_EQ(info.max_context_length(), 1024u);
  EXPECT_EQ(info.vocab_size(), 288u);
  EXPECT_TRUE(info.is_generation());
  EXPECT_FALSE(info.model_path().empty()) << "a gateway asks for no tokenizer otherwise";

  pb::GetServerInfoResponse server;
  ASSERT_TRUE(vllm_->GetServerInfo(&server_context, pb::GetServerInfoRequest(), &server).ok());
  EXPECT_EQ(server.max_num_seqs(), 64);
  EXPECT_EQ(server.block_size(), kv::kPageTokens);

  ASSERT_TRUE(Run(AskIds(std::string(200, 'a'), 2, false)).status.ok());
  const VllmReply again = Run(AskIds(std::string(200, 'a'), 2, false));
  EXPECT_GT(again.complete[0].cached_tokens(), 100u);
  ASSERT_TRUE(Eventually([this] { return Load().num_total_reqs() == 0; }));
  const pb::SchedulerLoad load = Load();
  EXPECT_EQ(load.max_total_num_tokens(), 256 * kv::kPageTokens);
  EXPECT_EQ(load.token_usage(), 0.0) << "what the prefix cache holds is free";
  EXPECT_GT(load.cache_hit_rate(), 0.0);

  common::FlushCacheResponse flushed;
  ASSERT_TRUE(vllm_->FlushCache(&flush_context, common::FlushCacheRequest(), &flushed).ok());
  EXPECT_TRUE(flushed.success());
  EXPECT_TRUE(Eventually([this] { return daemon_->Snapshot().pages_cached == 0; }));

  pb::HealthCheckResponse health;
  ASSERT_TRUE(vllm_->HealthCheck(&health_context, pb::HealthCheckRequest(), &health).ok());
  EXPECT_TRUE(health.healthy());
}

TEST_F(ServerVllm, TokenizerComesAsAZipWithItsFingerprint) {
  grpc::ClientContext context;
  const auto reader = vllm_->GetTokenizer(&context, common::GetTokenizerRequest());
  std::string bytes, sha256;
  common::GetTokenizerChunk chunk;
  while (reader->Read(&chunk)) {
    EXPECT_EQ(sha256, "") << "only the last chunk has it";
    bytes += chunk.data();
    sha256 = chunk.sha256();
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(sha256, engine::Sha256Hex(bytes));

  zip_error_t error;
  zip_error_init(&error);
  zip_t* zip = zip_open_from_source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error), 0, &error);
  ASSERT_NE(zip, nullptr);
  const auto read = [zip](const char* name) {
    zip_stat_t stat;
    EXPECT_EQ(zip_stat(zip, name, 0, &stat), 0) << name;
    std::string content(stat.size, '\0');
    zip_file_t* file = zip_fopen(zip, name, 0);
    EXPECT_EQ(zip_fread(file, content.data(), content.size()), static_cast<zip_int64_t>(content.size()));
    zip_fclose(file);
    return nlohmann::json::parse(content);
  };
  const auto tokenizer = read("tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["vocab"]["a"], 'a');
  EXPECT_EQ(tokenizer["added_tokens"][1]["id"], kImEnd);
  EXPECT_EQ(tokenizer["added_tokens"][1]["special"], true);
  EXPECT_TRUE(read("tokenizer_config.json").contains("chat_template"));
  zip_close(zip);
}

}  // namespace
}  // namespace nibble::server
