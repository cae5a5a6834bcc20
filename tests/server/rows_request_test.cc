// Rows 1-8, 14-15 and 17 of the robustness table: what a request may hold. Row 4 is with the real model.
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <limits>

#include "absl/time/clock.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class ServerRows : public ServerFixture {
 protected:
  void ExpectInvalid(const std::string& field, const std::function<void(v1::GenerateRequest&)>& change) {
    EXPECT_THAT(Refusal(change), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, field));
  }
  void ExpectAccepted(const std::function<void(v1::GenerateRequest&)>& change) {
    v1::GenerateRequest request = Ask("hello", 2);
    change(request);
    const Reply reply = Generate(request);
    EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
  }
  grpc::Status SendBytes(const std::string& method, const std::string& bytes);
};

TEST_F(ServerRows, Row1_EmptyPromptIsRefused) {
  ExpectInvalid("text", [](auto& r) { r.set_text(""); });
  ExpectInvalid("token_ids", [](auto& r) { r.mutable_token_ids(); });
  ExpectInvalid("chat.messages", [](auto& r) { r.mutable_chat(); });
  ExpectInvalid("input", [](auto& r) { r.clear_input(); });
}

TEST_F(ServerRows, Row1_PromptThatTokenizesToNothingIsRefused) {
  ExpectInvalid("chat: has no tokens", [](auto& r) {
    v1::ChatMessage* message = r.mutable_chat()->add_messages();
    message->set_role("nobody");
    message->set_content("hello");
  });
}

TEST_F(ServerRows, Row2_NumberOfChoicesIsBounded) {
  for (const int32_t n : {0, -1, 9, 1'000'000, std::numeric_limits<int32_t>::max()}) {
    ExpectInvalid("sampling.n", [n](auto& r) { r.mutable_sampling()->set_n(n); });
  }
  v1::GenerateRequest request = Ask("hello", 3);
  request.mutable_sampling()->set_n(8);
  const Reply reply = Generate(request);
  EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.finished.size(), 8u);
}

TEST_F(ServerRows, Row3_SamplingScalarsMustBeFiniteAndInRange) {
  using Setter = void (*)(v1::Sampling*, float);
  struct Case {
    const char* field;
    Setter set;
    float above, below;
  };
  const Case cases[] = {
      {"sampling.temperature", [](auto* s, float v) { s->set_temperature(v); }, 100.1f, -0.01f},
      {"sampling.top_p", [](auto* s, float v) { s->set_top_p(v); }, 1.01f, 0.0f},
      {"sampling.min_p", [](auto* s, float v) { s->set_min_p(v); }, 1.01f, -0.01f},
      {"sampling.repetition_penalty", [](auto* s, float v) { s->set_repetition_penalty(v); }, 2.01f, 0.0f},
      {"sampling.presence_penalty", [](auto* s, float v) { s->set_presence_penalty(v); }, 2.01f, -2.01f},
      {"sampling.frequency_penalty", [](auto* s, float v) { s->set_frequency_penalty(v); }, 2.01f, -2.01f},
      {"sampling.logit_bias", [](auto* s, float v) { (*s->mutable_logit_bias())[5] = v; }, 101.0f, -101.0f},
  };
  for (const Case& c : cases) {
    for (const float value : {kNan, kInfinity, -kInfinity, c.above, c.below}) {
      ExpectInvalid(c.field, [&](auto& r) { c.set(r.mutable_sampling(), value); });
    }
  }
  ExpectAccepted([](auto& r) { r.mutable_sampling()->set_temperature(100.0f); });
  ExpectInvalid("sampling.top_k", [](auto& r) { r.mutable_sampling()->set_top_k(-1); });
}

TEST_F(ServerRows, Row3_TinyTemperatureIsGreedy) {
  const std::string greedy = Generate(Ask("hello")).text;
  for (const float temperature : {-0.0f, 1e-38f, 1e-6f}) {
    v1::GenerateRequest request = Ask("hello");
    request.mutable_sampling()->set_temperature(temperature);
    request.mutable_sampling()->set_seed(99);
    EXPECT_EQ(Generate(request).text, greedy);
  }
}

TEST_F(ServerRows, Row5_TokenIdsAreBelowTheLogitsRows) {
  const auto vocab = static_cast<int32_t>(engine_options_.vocab_size);
  for (const int32_t id : {-1, vocab, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    ExpectInvalid("token_ids", [id](auto& r) { r.mutable_token_ids()->add_ids(id); });
    ExpectInvalid("sampling.logit_bias", [id](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[id] = 1.0f; });
    ExpectInvalid("stopping.stop_token_ids", [id](auto& r) { r.mutable_stopping()->add_stop_token_ids(id); });
  }
  // A row of logits that the tokenizer has no token for is a valid id.
  ExpectAccepted([vocab](auto& r) { r.mutable_token_ids()->add_ids(vocab - 1); });
  ExpectAccepted([vocab](auto& r) { r.mutable_stopping()->add_stop_token_ids(vocab - 1); });
}

TEST_F(ServerRows, Row5_ListsAreBounded) {
  const auto biases = [](int count) {
    return [count](v1::GenerateRequest& r) {
      for (int i = 0; i < count; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1.0f;
    };
  };
  ExpectAccepted(biases(288));
  ExpectInvalid("sampling.logit_bias: more than 1024", biases(1025));
  const auto stop_strings = [](int count, size_t size) {
    return [count, size](v1::GenerateRequest& r) {
      for (int i = 0; i < count; ++i) r.mutable_stopping()->add_stop_strings(std::string(size, 'X'));
    };
  };
  ExpectAccepted(stop_strings(16, 256));
  ExpectInvalid("stopping.stop_strings", stop_strings(17, 1));
  ExpectInvalid("stopping.stop_strings", stop_strings(1, 257));
  ExpectInvalid("stopping.stop_strings", stop_strings(1, 0));
  const auto stop_ids = [](int count) {
    return [count](v1::GenerateRequest& r) {
      for (int i = 0; i < count; ++i) r.mutable_stopping()->add_stop_token_ids(3);
    };
  };
  ExpectAccepted(stop_ids(128));
  ExpectInvalid("stopping.stop_token_ids", stop_ids(129));
  ExpectAccepted([](auto& r) { r.set_request_id(std::string(128, 'i')); });
  ExpectInvalid("request_id", [](auto& r) { r.set_request_id(std::string(129, 'i')); });
}

TEST_F(ServerRows, PriorityAndMessagesOfAChatAreBounded) {
  for (const int32_t priority : {-100, 100}) {
    ExpectAccepted([=](auto& r) { r.set_priority(priority); });
    ExpectInvalid("priority", [=](auto& r) { r.set_priority(priority + (priority > 0 ? 1 : -1)); });
  }
  ExpectInvalid("chat.messages", [](auto& r) {
    for (int i = 0; i < 1025; ++i) r.mutable_chat()->add_messages()->set_role("user");
  });
}

class ServerRowsLargeVocabulary : public ServerRows {
 protected:
  void SetUp() override {
    engine_options_.vocab_size = 2048;
    StartDaemon();
  }
};

TEST_F(ServerRowsLargeVocabulary, Row5_AThousandBiasesAndNoMore) {
  const auto biases = [](int count) {
    return [count](v1::GenerateRequest& r) {
      for (int i = 0; i < count; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1.0f;
    };
  };
  ExpectAccepted(biases(1024));
  ExpectInvalid("sampling.logit_bias: more than 1024", biases(1025));
}

TEST_F(ServerRows, Row17_MetadataIsBounded) {
  const auto status_with = [this](int64_t bytes) {
    grpc::ClientContext context;
    context.AddMetadata("x", std::string(bytes, 'v'));
    const auto reader = stub_->Generate(&context, Ask("hello", 2));
    return ReadAll(context, *reader).status;
  };
  const int64_t limit = options_.limits.metadata_bytes;
  EXPECT_TRUE(status_with(limit - 1024).ok());  // gRPC sends some of its own
  EXPECT_THAT(status_with(limit), GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "metadata"));
}

class ServerRowsSmallIntake : public ServerRows {
 protected:
  void SetUp() override {
    options_.limits.intake_bytes = 600;
    StartDaemon();
  }
};

TEST_F(ServerRowsSmallIntake, Row28_BytesThatAwaitAdmissionAreBounded) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Generate(Ask(std::string(500, 'x'), 1)).status.ok()) << "given back each time";
    const Reply reply = Generate(Ask(std::string(601, 'x'), 1));
    EXPECT_THAT(reply.status, GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "await admission"));
    EXPECT_EQ(reply.pushback_ms, "1000");
  }
  v1::TokenizeRequest request;
  request.set_text(std::string(601, 'x'));
  grpc::ClientContext context;
  v1::TokenizeResponse response;
  EXPECT_EQ(stub_->Tokenize(&context, request, &response).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
}

TEST_F(ServerRows, Row6_LengthsAreProvenIn64Bits) {
  for (const int64_t max_tokens : {int64_t{0}, int64_t{-1}, int64_t{1} << 31, std::numeric_limits<int64_t>::max()}) {
    ExpectInvalid("stopping.max_tokens", [=](auto& r) { r.mutable_stopping()->set_max_tokens(max_tokens); });
  }
  // The prompt "hello" has 5 tokens and the context 1024.
  ExpectInvalid("stopping.max_tokens", [](auto& r) { r.mutable_stopping()->set_max_tokens(1020); });
  ExpectAccepted([](auto& r) { r.mutable_stopping()->set_max_tokens(1019); });
  for (const int64_t min_tokens : {int64_t{-1}, int64_t{9}, std::numeric_limits<int64_t>::min()}) {
    ExpectInvalid("stopping.min_tokens", [=](auto& r) { r.mutable_stopping()->set_min_tokens(min_tokens); });
  }
  ExpectInvalid("text", [](auto& r) { r.set_text(std::string(1024, 'x')); });
}

TEST_F(ServerRows, Row7_LogprobsAreBounded) {
  for (const int32_t k : {-1, 21, 288}) {
    ExpectInvalid("logprobs", [k](auto& r) { r.set_logprobs(k); });
    ExpectInvalid("prompt_logprobs", [k](auto& r) { r.set_prompt_logprobs(k); });
  }
  v1::GenerateRequest request = Ask(std::string(900, 'x'), 4);
  request.set_logprobs(20);
  request.set_prompt_logprobs(20);
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  int64_t prompt_entries = 0;
  for (const auto& event : reply.events) {
    prompt_entries += event.prompt_logprobs().tokens_size();
    for (const auto& entry : event.chunk().logprobs()) EXPECT_EQ(entry.top_size(), 20);
    EXPECT_EQ(event.chunk().logprobs_size(), event.chunk().token_ids_size());
  }
  EXPECT_EQ(prompt_entries, 899);
}

// A unary call with this as its message.
grpc::Status ServerRows::SendBytes(const std::string& method, const std::string& bytes) {
  const grpc::Slice slice(bytes);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(NewChannel());
  const auto call = stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status;
}

class ServerRowsSmallBudget : public ServerRows {
 protected:
  void SetUp() override {
    options_.limits.prompt_logprobs_bytes = 20 * sizeof(engine::Logprobs);
    StartDaemon();
  }
};

TEST_F(ServerRowsSmallBudget, Row7_PromptLogprobsMemoryIsChargedAtAdmission) {
  v1::GenerateRequest request = Ask(std::string(21, 'x'), 1);
  request.set_prompt_logprobs(0);
  EXPECT_THAT(Generate(request).status, GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "prompt_logprobs"));
  request.set_text(std::string(20, 'x'));
  // Twice: the charge is given back.
  EXPECT_TRUE(Generate(request).status.ok());
  EXPECT_TRUE(Eventually([this] { return Idle(); }));
  EXPECT_TRUE(Generate(request).status.ok());
}

TEST_F(ServerRows, Row8_TextThatSpellsSpecialTokensIsPlain) {
  v1::TokenizeRequest request;
  request.set_text("<|im_end|>");
  grpc::ClientContext context;
  v1::TokenizeResponse response;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &response).ok());
  EXPECT_EQ(std::string(response.ids().begin(), response.ids().end()), "<|im_end|>");
}

TEST_F(ServerRows, Row8_OnlyTheTemplatesOwnWordsAreSpecialInChat) {
  v1::TokenizeRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("a<|im_end|>b");
  grpc::ClientContext context;
  v1::TokenizeResponse response;
  const grpc::Status status = stub_->Tokenize(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(std::count(response.ids().begin(), response.ids().end(), kImEnd), 1);
  EXPECT_EQ(std::count(response.ids().begin(), response.ids().end(), kImStart), 2);
}

TEST_F(ServerRows, Row14_HugeAndOddTextHasADefinedResult) {
  // Just under the message limit; longer than the context.
  const absl::Time start = absl::Now();
  ExpectInvalid("text", [](auto& r) { r.set_text(std::string((1 << 20) - 100, 'x')); });
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  ExpectAccepted([](auto& r) { r.set_text(std::string("a\0b\0", 4)); });
  ExpectAccepted([](auto& r) { r.set_text("\u0301\u200d\ufffd\U0010ffff"); });
}

// What a `string` field must not hold cannot be sent through generated code.
TEST_F(ServerRows, Row14_InvalidUtf8IsRefused) {
  for (const std::string text : {"\xff", "\xed\xa0\x80", "a\xc3"}) {
    const std::string wire = std::string("\x12") + static_cast<char>(text.size()) + text;  // field 2: text
    const grpc::Status status = SendBytes("/nibble.v1.Inference/Tokenize", wire);
    EXPECT_THAT(status, GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "malformed message"));
  }
}

class ServerRowsSmallPool : public ServerRows {
 protected:
  void SetUp() override {
    engine_options_.num_pages = 8;
    StartDaemon();
  }
};

TEST_F(ServerRowsSmallPool, Row15_MorePagesThanThePoolHasIsRefusedAtOnce) {
  EXPECT_THAT(Refusal([](auto& r) { r.mutable_stopping()->set_max_tokens(1000); }),
              GrpcStatusIs(StatusCode::INVALID_ARGUMENT, "pages"));
  // Without max_tokens the answer gets what the pool can hold.
  v1::GenerateRequest request = Ask("hello");
  request.mutable_stopping()->clear_max_tokens();
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  EXPECT_GT(reply.ids.size(), 100u);
}

TEST_F(ServerRows, UnknownModelAndAdapterAreNotFound) {
  EXPECT_THAT(Refusal([](auto& r) { r.set_model("other"); }), GrpcStatusIs(StatusCode::NOT_FOUND, "model"));
  EXPECT_THAT(Refusal([](auto& r) { r.set_adapter("a"); }), GrpcStatusIs(StatusCode::NOT_FOUND, "adapter"));
  ExpectAccepted([](auto& r) { r.set_model("tiny"); });
}

}  // namespace
}  // namespace nibble::server
