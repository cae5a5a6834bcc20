// inference.GRPCInferenceService: tensors against the native request, and several requests on one stream.
#include <set>

#include "kserve/inference.grpc.pb.h"
#include "server/oip_bytes.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

namespace pb = inference;
using grpc::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

void AddBytes(const std::string& name, const std::string& value, pb::ModelInferRequest* request) {
  auto* input = request->add_inputs();
  input->set_name(name);
  input->set_datatype("BYTES");
  input->add_shape(1);
  std::string raw;
  AppendLittleEndian(static_cast<uint32_t>(value.size()), &raw);
  request->add_raw_input_contents(raw + value);
}

void AddBool(const std::string& name, bool value, pb::ModelInferRequest* request) {
  auto* input = request->add_inputs();
  input->set_name(name);
  input->set_datatype("BOOL");
  input->add_shape(1);
  request->add_raw_input_contents(std::string(1, value ? '\1' : '\0'));
}

pb::ModelInferRequest AskTensors(const std::string& text, const std::string& sampling, bool stream = false) {
  pb::ModelInferRequest request;
  request.set_model_name("tiny");
  AddBytes("text_input", text, &request);
  if (!sampling.empty()) AddBytes("sampling_parameters", sampling, &request);
  if (stream) AddBool("stream", true, &request);
  return request;
}

std::string Output(const pb::ModelInferResponse& response, const std::string& name) {
  for (int i = 0; i < response.outputs_size(); ++i) {
    if (response.outputs(i).name() != name) continue;
    const std::string& raw = response.raw_output_contents(i);
    if (response.outputs(i).datatype() == "UINT32") return absl::StrCat(LoadLittleEndian(raw.data()));
    EXPECT_EQ(LoadLittleEndian(raw.data()), raw.size() - kOipLengthBytes);
    return raw.substr(kOipLengthBytes);
  }
  return "no such output";
}

bool IsFinal(const pb::ModelStreamInferResponse& response) {
  return response.infer_response().parameters().at("triton_final_response").bool_param();
}

class ServerOip : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    oip_ = pb::GRPCInferenceService::NewStub(NewChannel());
  }

  grpc::Status Infer(const pb::ModelInferRequest& request, pb::ModelInferResponse* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return oip_->ModelInfer(&context, request, response);
  }
  grpc::Status Refusal(const pb::ModelInferRequest& request) {
    pb::ModelInferResponse response;
    return Infer(request, &response);
  }

  std::unique_ptr<pb::GRPCInferenceService::Stub> oip_;
};

constexpr char kGreedy6[] = R"({"temperature": 0, "max_tokens": 6})";

TEST_F(ServerOip, AnswersAsTheNativeServiceDoes) {
  const Reply native = Generate(Ask("hello", 6));
  pb::ModelInferRequest request = AskTensors("hello", kGreedy6);
  request.set_id("mine");
  AddBool("exclude_input_in_output", true, &request);
  AddBool("return_finish_reason", true, &request);
  AddBool("return_num_input_tokens", true, &request);
  AddBool("return_num_output_tokens", true, &request);
  pb::ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(response.id(), "mine");
  EXPECT_EQ(response.model_name(), "tiny");
  EXPECT_EQ(Output(response, "text_output"), native.text);
  EXPECT_EQ(Output(response, "finish_reason"), "length");
  EXPECT_EQ(Output(response, "num_input_tokens"), "5");
  EXPECT_EQ(Output(response, "num_output_tokens"), "6");

  request.add_outputs()->set_name("text_output");
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_THAT(response.outputs(), SizeIs(1)) << "only what was asked for";

  ASSERT_TRUE(Infer(AskTensors("hello", kGreedy6), &response).ok());
  EXPECT_EQ(Output(response, "text_output"), "hello" + native.text) << "Triton's default: the prompt in front";
}

TEST_F(ServerOip, SamplingMayComeAsParametersOfTheRequest) {
  pb::ModelInferRequest request = AskTensors("hello", "");
  (*request.mutable_parameters())["max_tokens"].set_int64_param(3);
  (*request.mutable_parameters())["temperature"].set_double_param(0.0);
  (*request.mutable_parameters())["priority"].set_uint64_param(5);
  AddBool("return_num_output_tokens", true, &request);
  pb::ModelInferResponse response;
  ASSERT_TRUE(Infer(request, &response).ok());
  EXPECT_EQ(Output(response, "num_output_tokens"), "3");
}

// Names are the client's here: what no contract rules out, the parser must.
TEST_F(ServerOip, Row13_NoTensorParameterOrMemberTakesATemplate) {
  for (const std::string name : {"chat_template", "chat_template_kwargs", "template"}) {
    const auto refused = GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "named '" + name + "'");
    EXPECT_THAT(Refusal(AskTensors("hello", absl::StrCat("{\"", name, "\": \"{{ messages }}\"}"))), refused);
    pb::ModelInferRequest request = AskTensors("hello", "");
    (*request.mutable_parameters())[name].set_string_param("{{ messages }}");
    EXPECT_THAT(Refusal(request), refused);
    request = AskTensors("hello", "");
    AddBool(name, true, &request);
    EXPECT_THAT(Refusal(request), refused);
  }
}

TEST_F(ServerOip, ErrorsNameTheTensorOrTheKey) {
  const auto invalid = [this](const std::string& sampling, const char* field) {
    EXPECT_THAT(Refusal(AskTensors("hello", sampling)), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, field)) << sampling;
  };
  invalid("[1]", "sampling_parameters: is no JSON object");
  invalid("{not json", "sampling_parameters");
  invalid(std::string(100000, '['), "sampling_parameters");
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  invalid(deep, "sampling_parameters: is no JSON object");
  for (const char* key : {"stop", "stop_token_ids", "logit_bias", "temperature", "no_such_key"}) {
    invalid(absl::StrCat("{\"", key, "\": ", deep, "}"), key);
  }
  invalid(R"({"best_of": 3})", "best_of");
  invalid(R"({"n": 2})", "sampling_parameters.n");
  invalid(R"({"temperature": "hot"})", "sampling_parameters.temperature");
  invalid(R"({"temperature": 1e30})", "sampling_parameters.temperature");
  invalid(R"({"top_p": 2})", "sampling_parameters.top_p");
  invalid(R"({"top_k": 3000000000})", "sampling_parameters.top_k");
  invalid(R"({"max_tokens": 0})", "sampling_parameters.max_tokens");
  invalid(R"({"max_tokens": 1.5})", "sampling_parameters.max_tokens");
  invalid(R"({"max_tokens": 18446744073709551615})", "sampling_parameters.max_tokens");
  invalid(R"({"stop": [1]})", "sampling_parameters.stop");
  invalid(R"({"stop": ""})", "sampling_parameters.stop");
  invalid(R"({"stop_token_ids": 5})", "sampling_parameters.stop_token_ids");
  invalid(R"({"stop_token_ids": [99999]})", "sampling_parameters.stop_token_ids");
  invalid(R"({"logit_bias": {"a": 1}})", "sampling_parameters.logit_bias");
  invalid(R"({"ignore_eos": 1})", "sampling_parameters.ignore_eos");

  pb::ModelInferRequest request = AskTensors("hello", kGreedy6);
  request.mutable_raw_input_contents(0)->resize(3);
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "text_input"));
  request = AskTensors("hello", kGreedy6);
  request.mutable_raw_input_contents(0)->back() = 'x';
  request.mutable_raw_input_contents(0)->append("more than its length");
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "text_input"));
  request = AskTensors("hello", kGreedy6);
  request.mutable_raw_input_contents()->RemoveLast();
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "raw_input_contents"));
  request = AskTensors("hello", kGreedy6);
  request.mutable_inputs(0)->set_datatype("FP32");
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "text_input"));
  request = AskTensors("hello", kGreedy6);
  AddBool("no_such_input", true, &request);
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "no_such_input"));
  request = AskTensors("hello", kGreedy6);
  request.add_outputs()->set_name("no_such_output");
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "no_such_output"));
  EXPECT_THAT(Refusal(AskTensors("", kGreedy6)), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "text_input"));
  request = AskTensors("hello", kGreedy6);
  request.set_model_name("other");
  EXPECT_THAT(Refusal(request), GrpcStatusIs(StatusCode::NOT_FOUND, "model_name"));
}

class ServerOipStream : public ServerOip {
 protected:
  using Stream = grpc::ClientReaderWriter<pb::ModelInferRequest, pb::ModelStreamInferResponse>;

  void Send(const std::string& id, pb::ModelInferRequest request) {
    request.set_id(id);
    ASSERT_TRUE(stream_->Write(request));
  }
  // Text by id, until `count` requests have had their last response; an error is its text.
  std::map<std::string, std::string> ReadFinals(size_t count) {
    std::map<std::string, std::string> texts;
    std::set<std::string> done;
    pb::ModelStreamInferResponse response;
    while (done.size() < count && stream_->Read(&response)) {
      const std::string& id = response.infer_response().id();
      EXPECT_FALSE(done.contains(id)) << "nothing follows the last response";
      if (!response.error_message().empty()) {
        texts[id] = response.error_message();
      } else {
        texts[id] += Output(response.infer_response(), "text_output");
        ++responses_;
      }
      if (IsFinal(response)) done.insert(id);
    }
    EXPECT_EQ(done.size(), count);
    return texts;
  }

  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  int responses_ = 0;
};

TEST_F(ServerOipStream, RequestsShareOneStream) {
  const Reply native = Generate(Ask("hello", 6));
  stream_ = oip_->ModelStreamInfer(&context_);
  Send("pieces", AskTensors("hello", kGreedy6, true));
  EXPECT_THAT(ReadFinals(1), ElementsAre(testing::Pair("pieces", native.text)));
  EXPECT_GE(responses_, 2);
  Send("whole", AskTensors("hello", kGreedy6));
  Send("wrong", AskTensors("hello", R"({"top_p": 2})", true));
  Send("a", AskTensors("hello", kGreedy6, true));
  Send("b", AskTensors("hello", kGreedy6, true));
  auto texts = ReadFinals(4);
  EXPECT_EQ(texts["whole"], "hello" + native.text);
  EXPECT_THAT(texts["wrong"], HasSubstr("sampling_parameters.top_p"));
  EXPECT_EQ(texts["a"], native.text);
  EXPECT_EQ(texts["b"], native.text);
  stream_->WritesDone();
  pb::ModelStreamInferResponse response;
  EXPECT_FALSE(stream_->Read(&response));
  EXPECT_TRUE(stream_->Finish().ok());
}

TEST_F(ServerOipStream, MoreRequestsThanMayRunAtOnceAreAllAnswered) {
  stream_ = oip_->ModelStreamInfer(&context_);
  const size_t count = 3 * static_cast<size_t>(options_.limits.streams_per_connection);
  std::thread writer([&] {
    for (size_t i = 0; i < count; ++i) Send(absl::StrCat(i), AskTensors("hello", kGreedy6));
    stream_->WritesDone();
  });
  const auto texts = ReadFinals(count);
  writer.join();
  EXPECT_TRUE(stream_->Finish().ok());
  for (const auto& [id, text] : texts) EXPECT_EQ(text, texts.at("0")) << id;
}

TEST_F(ServerOipStream, CancelFreesEveryRequest) {
  engine_->Hold();
  stream_ = oip_->ModelStreamInfer(&context_);
  for (const char* id : {"a", "b", "c"}) {
    Send(id, AskTensors("hello", R"({"max_tokens": 900, "ignore_eos": true})", true));
  }
  ASSERT_TRUE(Eventually([this] { return daemon_->streams() == 3; }));
  context_.TryCancel();
  engine_->Release();
  EXPECT_EQ(stream_->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([this] { return daemon_->streams() == 0; }));
}

TEST_F(ServerOipStream, ADrainEndsAnIdleStreamAndLetsABusyOneAnswer) {
  grpc::ClientContext idle_context;
  const auto idle = oip_->ModelStreamInfer(&idle_context);
  pb::ModelStreamInferResponse response;
  ASSERT_TRUE(idle->Write(AskTensors("hello", kGreedy6)));
  ASSERT_TRUE(idle->Read(&response));
  stream_ = oip_->ModelStreamInfer(&context_);
  engine_->Hold();
  Send("mine", AskTensors("hello", kGreedy6, true));
  engine_->AwaitHeldStep();
  std::thread drain([this] { daemon_->Drain(absl::Seconds(20)); });
  EXPECT_FALSE(idle->Read(&response));
  EXPECT_THAT(idle->Finish(), GrpcStatusIs(StatusCode::UNAVAILABLE, "drains"));
  engine_->Release();
  EXPECT_THAT(ReadFinals(1), SizeIs(1));
  EXPECT_FALSE(stream_->Read(&response));
  EXPECT_THAT(stream_->Finish(), GrpcStatusIs(StatusCode::UNAVAILABLE, "drains"));
  drain.join();
  StartDaemon();
}

TEST_F(ServerOip, WhatTheServerSaysOfItself) {
  const auto call = [this](auto method, const auto& request, auto* response) {
    grpc::ClientContext context;
    return (oip_.get()->*method)(&context, request, response);
  };
  using Stub = pb::GRPCInferenceService::Stub;
  pb::ServerLiveResponse live;
  ASSERT_TRUE(call(&Stub::ServerLive, pb::ServerLiveRequest(), &live).ok());
  EXPECT_TRUE(live.live());
  pb::ServerReadyResponse ready;
  ASSERT_TRUE(call(&Stub::ServerReady, pb::ServerReadyRequest(), &ready).ok());
  EXPECT_TRUE(ready.ready());
  pb::ModelReadyRequest model;
  pb::ModelReadyResponse model_ready;
  model.set_name("other");
  ASSERT_TRUE(call(&Stub::ModelReady, model, &model_ready).ok());
  EXPECT_FALSE(model_ready.ready());
  model.set_name("tiny");
  ASSERT_TRUE(call(&Stub::ModelReady, model, &model_ready).ok());
  EXPECT_TRUE(model_ready.ready());
  pb::ModelMetadataRequest metadata_request;
  pb::ModelMetadataResponse metadata;
  EXPECT_EQ(call(&Stub::ModelMetadata, metadata_request, &metadata).error_code(), StatusCode::NOT_FOUND);
  metadata_request.set_name("tiny");
  ASSERT_TRUE(call(&Stub::ModelMetadata, metadata_request, &metadata).ok());
  EXPECT_EQ(metadata.inputs(0).name(), "text_input");
  pb::ModelConfigRequest config_request;
  pb::ModelConfigResponse config;
  config_request.set_name("tiny");
  ASSERT_TRUE(call(&Stub::ModelConfig, config_request, &config).ok());
  EXPECT_TRUE(config.config().model_transaction_policy().decoupled());
  ASSERT_TRUE(Generate(Ask("hello", 2)).status.ok());
  pb::ModelStatisticsResponse statistics;
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(call(&Stub::ModelStatistics, pb::ModelStatisticsRequest(), &statistics).ok());
    return statistics.model_stats(0).inference_count() >= 1;
  }));
}

}  // namespace
}  // namespace nibble::server
