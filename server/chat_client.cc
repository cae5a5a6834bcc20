#include "server/chat_client.h"

#include <grpcpp/grpcpp.h>

#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/string_view.h"
#include "engine/tools/flags.h"
#include "nibble/v1/inference.grpc.pb.h"

ABSL_FLAG(std::string, server, "127.0.0.1:50051", "gRPC address of a running nibbled");

namespace nibble::server {
namespace {

v1::GenerateRequest RequestFromFlags(const std::string& text) {
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(text);
  request.mutable_stopping()->set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  if (const auto temperature = absl::GetFlag(FLAGS_temperature)) {
    request.mutable_sampling()->set_temperature(*temperature);
  }
  if (const auto seed = absl::GetFlag(FLAGS_seed)) request.mutable_sampling()->set_seed(*seed);
  return request;
}

absl::Status RunChat(const std::vector<std::string>& positionals) {
  const auto channel = grpc::CreateChannel(absl::GetFlag(FLAGS_server), grpc::InsecureChannelCredentials());
  const auto stub = v1::Inference::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, RequestFromFlags(positionals[0]));
  v1::GenerateResponse event;
  bool answered = false;
  while (reader->Read(&event)) {
    answered = answered || !event.chunk().text().empty();
    std::fwrite(event.chunk().text().data(), 1, event.chunk().text().size(), stdout);
    std::fflush(stdout);
  }
  const grpc::Status status = reader->Finish();
  if (answered || status.ok()) std::fputc('\n', stdout);
  if (status.ok()) return absl::OkStatus();
  // Whatever the server says is a failure of the work: the command itself was well-formed.
  return absl::UnknownError(absl::string_view(status.error_message()));
}

}  // namespace

engine::Command ChatCommand() {
  return {.name = "chat",
          .summary = "asks a running daemon and streams its answer",
          .arguments = "[--server ADDR] [--max-tokens N] [--temperature T] [--seed S] TEXT",
          .flags = {"server", "max-tokens", "temperature", "seed"},
          .min_positionals = 1,
          .max_positionals = 1,
          .run = RunChat};
}

}  // namespace nibble::server
