#include "server/tokenizer_stream.h"

#include <algorithm>

#include "server/wire.h"
#include "smg/common.pb.h"

namespace nibble::server {
namespace {

constexpr size_t kChunkBytes = 64 << 10;

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* TokenizerStream::Start(TokenizerFiles* files) {
  auto* stream = new TokenizerStream;  // OnDone deletes it
  files->Get([stream](const absl::StatusOr<TokenizerFiles::Zip>& zip) { stream->Begin(zip); });
  return stream;
}

void TokenizerStream::Begin(const absl::StatusOr<TokenizerFiles::Zip>& zip) {
  if (!zip.ok()) return Finish(ToGrpcStatus(zip.status()));
  zip_ = &*zip;
  WriteNext();
}

void TokenizerStream::WriteNext() {
  smg::grpc::common::GetTokenizerChunk chunk;
  const size_t bytes = std::min(kChunkBytes, zip_->bytes.size() - sent_);
  chunk.set_data(zip_->bytes.substr(sent_, bytes));
  sent_ += bytes;
  const bool last = sent_ == zip_->bytes.size();
  if (last) chunk.set_sha256(zip_->sha256);
  buffer_ = SerializeMessage(chunk);
  if (last) {
    StartWriteAndFinish(&buffer_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&buffer_);
  }
}

void TokenizerStream::OnWriteDone(bool ok) {
  if (!ok) {
    // After the last chunk the call finishes by itself.
    if (sent_ < zip_->bytes.size()) Finish(grpc::Status::CANCELLED);
    return;
  }
  if (sent_ < zip_->bytes.size()) WriteNext();
}

void TokenizerStream::OnDone() { delete this; }

}  // namespace nibble::server
