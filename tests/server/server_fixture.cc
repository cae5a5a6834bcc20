#include "tests/server/server_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"

namespace nibble::server {

void ServerFixture::StartDaemon() {
  options_.listen = "127.0.0.1:0";
  options_.metrics = "127.0.0.1:0";
  options_.scheduler.step_tokens = engine_options_.max_step_tokens;
  options_.scheduler.max_sequences = engine_options_.max_sequences;
  std::unique_ptr<ServedModel> model = TinyModel(engine_options_, &engine_);
  if (prepare_model_) prepare_model_(*model);
  auto daemon = Daemon::Start(std::move(model), options_);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  daemon_ = *std::move(daemon);
  stub_ = v1::Inference::NewStub(NewChannel());
  const Reply reply = Generate(Ask("canary", 16));
  ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
  canary_ = reply.text;
}

void ServerFixture::TearDown() {
  if (daemon_ != nullptr) ExpectCanaryAndFreePages();
}

void ServerFixture::ExpectCanaryAndFreePages() {
  engine_->Release();
  const Reply reply = Generate(Ask("canary", 16));
  EXPECT_EQ(reply.text, canary_) << reply.status.error_code() << ": " << reply.status.error_message();
  EXPECT_TRUE(Eventually([this] { return Idle(); })) << daemon_->streams() << " streams are left";
  const sched::Counters counters = daemon_->Snapshot();
  EXPECT_EQ(counters.pages_free + counters.pages_cached, counters.pages_total);
}

bool ServerFixture::Idle() const {
  const sched::Counters c = daemon_->Snapshot();
  return daemon_->streams() == 0 && c.sequences_running + c.sequences_waiting + c.sequences_paused == 0 &&
         c.pages_free + c.pages_cached == c.pages_total;
}

std::shared_ptr<grpc::Channel> ServerFixture::NewChannel() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // the window stays at 64 KiB, whatever the test reads
  return grpc::CreateCustomChannel(daemon_->grpc_address(), credentials_, arguments);
}

v1::GenerateRequest ServerFixture::Ask(const std::string& text, int64_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0.0f);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

Reply ServerFixture::Generate(const v1::GenerateRequest& request, absl::Duration deadline) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
  AddKey(context, key_);
  return ReadAll(context, *stub_->Generate(&context, request));
}

Reply ServerFixture::GenerateAs(const std::string& key, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  AddKey(context, key);
  return ReadAll(context, *stub_->Generate(&context, request));
}

Reply ServerFixture::ReadAll(grpc::ClientContext& context, grpc::ClientReader<v1::GenerateResponse>& reader) {
  Reply reply;
  v1::GenerateResponse event;
  while (reader.Read(&event)) {
    if (event.has_chunk() && event.chunk().index() == 0) {
      reply.text += event.chunk().text();
      reply.ids.insert(reply.ids.end(), event.chunk().token_ids().begin(), event.chunk().token_ids().end());
    }
    if (event.has_finished()) reply.finished.push_back(event.finished());
    reply.events.push_back(event);
  }
  reply.status = reader.Finish();
  const auto& trailers = context.GetServerTrailingMetadata();
  if (const auto it = trailers.find("grpc-retry-pushback-ms"); it != trailers.end()) {
    reply.pushback_ms = std::string(it->second.data(), it->second.size());
  }
  return reply;
}

grpc::Status ServerFixture::Refusal(const std::function<void(v1::GenerateRequest&)>& change) {
  v1::GenerateRequest request = Ask("hello");
  change(request);
  const Reply reply = Generate(request);
  EXPECT_TRUE(reply.events.empty()) << "the request started";
  return reply.status;
}

bool ServerFixture::Eventually(const std::function<bool()>& condition) {
  const absl::Time give_up = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > give_up) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

int ServerFixture::Connect(const std::string& address) {
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
  sockaddr_in loopback = {};
  loopback.sin_family = AF_INET;
  loopback.sin_port = htons(static_cast<uint16_t>(port));
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)), 0);
  return fd;
}

std::string ServerFixture::Http(const std::string& request) const {
  const int fd = ConnectHttp();
  for (size_t sent = 0; sent < request.size();) {
    const ssize_t n = send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  close(fd);
  return answer;
}

}  // namespace nibble::server
