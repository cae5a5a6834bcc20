// What a Generate stream says, in which order, and the small calls.
#include <algorithm>

#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class ServerGenerate : public ServerFixture {
 protected:
  // The model says this text, then ends.
  void Say(const std::string& text) {
    engine_->SetScript([text](const engine::SampleRequest& request) -> int32_t {
      const size_t n = request.generated.size();
      return n < text.size() ? static_cast<unsigned char>(text[n]) : kImEnd;
    });
  }
  void TearDown() override {
    engine_->SetScript(nullptr);
    ServerFixture::TearDown();
  }
};

TEST_F(ServerGenerate, StartedThenChunksThenFinished) {
  v1::GenerateRequest request = Ask("hello", 5);
  request.set_request_id("mine");
  request.mutable_sampling()->set_seed(7);
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  const v1::Started& started = reply.events.front().started();
  EXPECT_EQ(started.request_id(), "mine");
  EXPECT_EQ(started.model(), "tiny");
  EXPECT_EQ(started.seed(), 7u);
  EXPECT_EQ(started.prompt_tokens(), 5);
  ASSERT_THAT(reply.finished, SizeIs(1));
  EXPECT_TRUE(reply.events.back().has_finished());
  const v1::Finished& finished = reply.finished[0];
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.matched_case(), v1::Finished::MATCHED_NOT_SET);
  EXPECT_EQ(finished.usage().prompt_tokens(), 5);
  EXPECT_EQ(finished.usage().generated_tokens(), 5);
  EXPECT_GT(finished.usage().first_token_seconds(), 0.0);
  EXPECT_GE(finished.usage().total_seconds(), finished.usage().first_token_seconds());
  EXPECT_THAT(reply.ids, SizeIs(5));
  EXPECT_EQ(reply.text, std::string(reply.ids.begin(), reply.ids.end()));
}

TEST_F(ServerGenerate, TheSeedThatWasDrawnRepeatsTheAnswer) {
  v1::GenerateRequest request = Ask("hello", 20);
  request.mutable_sampling()->set_temperature(1.0f);
  const Reply first = Generate(request);
  const Reply other = Generate(request);
  request.mutable_sampling()->set_seed(first.events.front().started().seed());
  EXPECT_EQ(Generate(request).text, first.text);
  EXPECT_NE(other.text, first.text);
}

TEST_F(ServerGenerate, EndTokenStopsUnlessIgnored) {
  Say("ab");
  Reply reply = Generate(Ask("hello", 10));
  EXPECT_EQ(reply.text, "ab");
  EXPECT_EQ(reply.finished[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(reply.finished[0].stop_token_id(), kImEnd);
  v1::GenerateRequest request = Ask("hello", 10);
  request.mutable_stopping()->set_ignore_eos(true);
  reply = Generate(request);
  EXPECT_EQ(reply.finished[0].reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reply.text, "ab") << "control tokens have no text";
  EXPECT_THAT(reply.ids, SizeIs(10));
}

TEST_F(ServerGenerate, StopStringIsCutOffAndTold) {
  Say("one STOP two");
  v1::GenerateRequest request = Ask("hello", 100);
  request.mutable_stopping()->add_stop_strings("nothing");
  request.mutable_stopping()->add_stop_strings("STOP");
  const Reply reply = Generate(request);
  EXPECT_TRUE(reply.status.ok());
  EXPECT_EQ(reply.text, "one ");
  EXPECT_EQ(reply.finished[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(reply.finished[0].stop_string(), "STOP");
}

TEST_F(ServerGenerate, WhatOnlyLookedLikeAStopStringComesInTheEnd) {
  Say("one ST");
  v1::GenerateRequest request = Ask("hello", 100);
  request.mutable_stopping()->add_stop_strings("STOP");
  EXPECT_EQ(Generate(request).text, "one ST");
}

TEST_F(ServerGenerate, StopTokenIsNotPartOfTheAnswer) {
  Say("abXc");
  v1::GenerateRequest request = Ask("hello", 100);
  request.mutable_stopping()->add_stop_token_ids('X');
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.text, "ab");
  EXPECT_EQ(reply.finished[0].stop_token_id(), 'X');
}

TEST_F(ServerGenerate, CharactersAreNeverSplit) {
  const std::string text = "\u00e9\u4e2d\U0001F600";
  Say(text + "\xe4");
  const Reply reply = Generate(Ask("hello", 100));
  EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.text, text + "\ufffd");
}

TEST_F(ServerGenerate, ChoicesAreIndependentAndEachFinishes) {
  v1::GenerateRequest request = Ask("hello", 6);
  request.mutable_sampling()->set_temperature(1.0f);
  request.mutable_sampling()->set_n(3);
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  std::vector<int> finished;
  for (const v1::Finished& f : reply.finished) finished.push_back(f.index());
  std::sort(finished.begin(), finished.end());
  EXPECT_THAT(finished, ElementsAre(0, 1, 2));
  std::map<int, std::string> texts;
  for (const auto& event : reply.events) texts[event.chunk().index()] += event.chunk().text();
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_THAT(texts, SizeIs(3));
}

TEST_F(ServerGenerate, LogprobsComeOnlyWhereAsked) {
  v1::GenerateRequest request = Ask("hello", 3);
  for (const auto& event : Generate(request).events) EXPECT_EQ(event.chunk().logprobs_size(), 0);
  request.set_logprobs(2);
  request.set_prompt_logprobs(1);
  const Reply reply = Generate(request);
  int tokens = 0;
  std::vector<int32_t> prompt;
  for (const auto& event : reply.events) {
    for (const auto& entry : event.chunk().logprobs()) tokens += entry.top_size() == 2;
    for (const auto& entry : event.prompt_logprobs().tokens()) prompt.push_back(entry.token().id());
  }
  EXPECT_EQ(tokens, 3);
  EXPECT_THAT(prompt, ElementsAre('e', 'l', 'l', 'o'));
}

TEST_F(ServerGenerate, ChatAndTokenIdsAreInputsToo) {
  v1::GenerateRequest chat = Ask("", 4);
  v1::ChatMessage* message = chat.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello");
  EXPECT_THAT(Generate(chat).ids, SizeIs(4));
  v1::GenerateRequest ids = Ask("", 4);
  for (const char c : std::string("hello")) ids.mutable_token_ids()->add_ids(c);
  EXPECT_EQ(Generate(ids).text, Generate(Ask("hello", 4)).text);
}

TEST_F(ServerGenerate, TokenizeAndDetokenizeAreInverse) {
  grpc::ClientContext context, back;
  v1::TokenizeRequest request;
  request.set_text("h\u00e9llo");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&context, request, &ids).ok());
  EXPECT_EQ(ids.ids_size(), 6);
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_ids() = ids.ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&back, detokenize, &text).ok());
  EXPECT_EQ(text.text(), request.text());
  grpc::ClientContext broken, outside;
  detokenize.mutable_ids()->Truncate(2);
  ASSERT_TRUE(stub_->Detokenize(&broken, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "h\ufffd");
  detokenize.add_ids(288);
  EXPECT_THAT(stub_->Detokenize(&outside, detokenize, &text), GrpcStatusIs(grpc::StatusCode::INVALID_ARGUMENT, "ids"));
}

TEST_F(ServerGenerate, ModelsAreDescribed) {
  grpc::ClientContext list_context, get_context, miss_context;
  v1::ListModelsResponse list;
  ASSERT_TRUE(stub_->ListModels(&list_context, v1::ListModelsRequest(), &list).ok());
  ASSERT_EQ(list.models_size(), 1);
  v1::Model model;
  v1::GetModelRequest request;
  request.set_name("tiny");
  ASSERT_TRUE(stub_->GetModel(&get_context, request, &model).ok());
  EXPECT_EQ(model.SerializeAsString(), list.models(0).SerializeAsString());
  EXPECT_EQ(model.context_length(), engine_options_.context_length);
  EXPECT_EQ(model.vocab_size(), engine_options_.vocab_size);
  EXPECT_TRUE(model.chat());
  EXPECT_EQ(model.state(), v1::MODEL_STATE_READY);
  request.set_name("other");
  EXPECT_EQ(stub_->GetModel(&miss_context, request, &model).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerGenerate, MessageSizeIsLimited) {
  v1::GenerateRequest request = Ask("");
  request.set_text(std::string((1 << 20) - request.ByteSizeLong() - 2, 'x'));  // two more bytes of length
  ASSERT_EQ(request.ByteSizeLong(), 1u << 20);
  EXPECT_THAT(Generate(request).status, GrpcStatusIs(grpc::StatusCode::INVALID_ARGUMENT, "text"));
  request.mutable_text()->push_back('x');
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ServerGenerate, CompressedMessagesAreRefused) {
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const Reply reply = ReadAll(context, *stub_->Generate(&context, Ask(std::string(1000, 'x'))));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ServerGenerate, LargeMetadataIsRefused) {
  grpc::ClientContext context;
  context.AddMetadata("x-large", std::string(20 << 10, 'm'));
  // gRPC 1.51 closes the sender's connection with it; others go on.
  const auto sender = v1::Inference::NewStub(NewChannel());
  const Reply reply = ReadAll(context, *sender->Generate(&context, Ask("hello")));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << reply.status.error_message();
}

}  // namespace
}  // namespace nibble::server
