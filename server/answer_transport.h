// Where one answer goes: a gRPC call of its own, or a place on a call that several answers share.
#ifndef NIBBLE_SERVER_ANSWER_TRANSPORT_H_
#define NIBBLE_SERVER_ANSWER_TRANSPORT_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "scheduler/request.h"

namespace nibble::server {

// The four are called by a GenerateStream without its locks, never two at a time but Reset; none of them waits. The
// transport calls back OnWritten for each Write, OnCancel where the client has gone, and OnDone, the last, after End.
class AnswerTransport {
 public:
  virtual ~AnswerTransport() = default;
  // `message` stays until OnWritten, which may come on this thread before Write returns.
  virtual void Write(const grpc::ByteBuffer* message) = 0;
  virtual void End(const grpc::Status& status) = 0;
  // Hint for a client that is told to come again. Before End.
  virtual void SetRetryAfter(sched::Nanos wait) = 0;
  // Any thread until OnDone returns. Drops what was not delivered.
  virtual void Reset() = 0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ANSWER_TRANSPORT_H_
