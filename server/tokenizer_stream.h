// One GetTokenizer call: the files, in chunks. Owns itself from Start until gRPC is done with it.
#ifndef NIBBLE_SERVER_TOKENIZER_STREAM_H_
#define NIBBLE_SERVER_TOKENIZER_STREAM_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/tokenizer_files.h"

namespace nibble::server {

class TokenizerStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // Never waits. `files` must outlive the call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(TokenizerFiles* files);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  TokenizerStream() = default;
  void Begin(const absl::StatusOr<TokenizerFiles::Zip>& zip);
  void WriteNext();

  const TokenizerFiles::Zip* zip_ = nullptr;
  size_t sent_ = 0;
  grpc::ByteBuffer buffer_;  // of the write in flight
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TOKENIZER_STREAM_H_
