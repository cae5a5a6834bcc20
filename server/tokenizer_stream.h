// One GetTokenizer call: the files, in chunks. Owns itself from Start until gRPC is done with it.
#ifndef NIBBLE_SERVER_TOKENIZER_STREAM_H_
#define NIBBLE_SERVER_TOKENIZER_STREAM_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/serving.h"
#include "server/tokenizer_files.h"

namespace nibble::server {

class TokenizerStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  // Never waits. Both must outlive the call.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(Serving* serving, TokenizerFiles* files);

  void OnWriteDone(bool ok) override;
  void OnDone() override;

 private:
  explicit TokenizerStream(TokenizerFiles* files) : files_(files) {}
  void Begin();
  void WriteNext();

  TokenizerFiles* const files_;
  const TokenizerFiles::Zip* zip_ = nullptr;
  size_t sent_ = 0;
  grpc::ByteBuffer buffer_;  // of the write in flight
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_TOKENIZER_STREAM_H_
