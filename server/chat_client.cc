#include "server/chat_client.h"

#include <grpcpp/grpcpp.h>

#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/strings/string_view.h"
#include "engine/tools/files.h"
#include "engine/tools/flags.h"
#include "kvcache/base/status_macros.h"
#include "nibble/v1/inference.grpc.pb.h"

ABSL_FLAG(std::string, server, "127.0.0.1:50051", "gRPC address of a running nibbled");
ABSL_FLAG(std::string, tenant_key, "", "key of a tenant, where the daemon has tenants");
ABSL_FLAG(std::string, tls_ca, "", "PEM file: the CA of the daemon's certificate; default: no TLS");
ABSL_FLAG(std::string, tls_cert, "", "PEM file: a client certificate, where the daemon asks for one");
ABSL_FLAG(std::string, tls_key, "", "PEM file: the certificate's key");

namespace nibble::server {
namespace {

v1::GenerateRequest RequestFromFlags(const std::string& text) {
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(text);
  request.set_adapter(absl::GetFlag(FLAGS_adapter));
  request.mutable_stopping()->set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
  if (const auto temperature = absl::GetFlag(FLAGS_temperature)) {
    request.mutable_sampling()->set_temperature(*temperature);
  }
  if (const auto seed = absl::GetFlag(FLAGS_seed)) request.mutable_sampling()->set_seed(*seed);
  return request;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsFromFlags() {
  const std::string ca = absl::GetFlag(FLAGS_tls_ca);
  const std::string certificate = absl::GetFlag(FLAGS_tls_cert), key = absl::GetFlag(FLAGS_tls_key);
  if (certificate.empty() != key.empty()) {
    return absl::InvalidArgumentError("--tls-cert, --tls-key: one is nothing without the other");
  }
  if (ca.empty() && !certificate.empty()) return absl::InvalidArgumentError("--tls-cert: needs --tls-ca");
  if (ca.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  NIBBLE_ASSIGN_OR_RETURN(options.pem_root_certs, engine::ReadWholeFile(ca));
  if (!certificate.empty()) {
    NIBBLE_ASSIGN_OR_RETURN(options.pem_cert_chain, engine::ReadWholeFile(certificate));
    NIBBLE_ASSIGN_OR_RETURN(options.pem_private_key, engine::ReadWholeFile(key));
  }
  return grpc::SslCredentials(options);
}

absl::Status RunChat(const std::vector<std::string>& positionals) {
  NIBBLE_ASSIGN_OR_RETURN(const auto credentials, CredentialsFromFlags());
  const auto stub = v1::Inference::NewStub(grpc::CreateChannel(absl::GetFlag(FLAGS_server), credentials));
  grpc::ClientContext context;
  const std::string key = absl::GetFlag(FLAGS_tenant_key);
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
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
          .arguments =
              "[--server ADDR] [--adapter NAME] [--tenant-key KEY] [--tls-ca FILE [--tls-cert FILE --tls-key FILE]] "
              "[--max-tokens N] [--temperature T] [--seed S] TEXT",
          .flags = {"server", "adapter", "tenant-key", "tls-ca", "tls-cert", "tls-key", "max-tokens", "temperature",
                    "seed"},
          .min_positionals = 1,
          .max_positionals = 1,
          .run = RunChat};
}

}  // namespace nibble::server
