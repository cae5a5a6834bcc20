#include "server/wire.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"

namespace nibble::server {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

absl::Status ParseMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message* message) {
  grpc::ByteBuffer shared = buffer;  // reading consumes a ByteBuffer
  grpc::ProtoBufferReader reader(&shared);
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return absl::InvalidArgumentError("malformed message: it does not parse, or a string in it is not UTF-8");
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  constexpr int kBlockBytes = 8 << 10;
  grpc::ByteBuffer buffer;
  {
    grpc::ProtoBufferWriter writer(&buffer, kBlockBytes, static_cast<int>(message.ByteSizeLong()));
    NIBBLE_CHECK(message.SerializeToZeroCopyStream(&writer));
  }
  return buffer;
}

void AddRetryAfter(sched::Nanos wait, grpc::CallbackServerContext* context) {
  context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(wait / 1'000'000));
}

}  // namespace nibble::server
