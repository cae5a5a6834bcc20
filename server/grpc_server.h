// The gRPC port: builder settings that are limits, health and reflection, and an orderly end.
#ifndef NIBBLE_SERVER_GRPC_SERVER_H_
#define NIBBLE_SERVER_GRPC_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/serving.h"

namespace nibble::server {

class GrpcServer {
 public:
  // Listens on `address` ("HOST:PORT"; port 0: a free one). UNAVAILABLE where it cannot.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const std::string& address, Serving* serving);
  // Ends every call at once.
  ~GrpcServer();

  // The address with the port that was bound.
  const std::string& address() const;

  // Whether its connections are at their limit.
  bool full() const;
  // Health watches that are open.
  int64_t watches() const;
  // Health says NOT_SERVING and ends its watches.
  void BeginDrain();
  // GOAWAY to every client; waits until no call is left, or cancels them after `grace`. Once.
  void Shutdown(absl::Duration grace);

 private:
  struct Parts;
  explicit GrpcServer(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

// Connects anew to `address` and asks its health service; true if it answers in time, whatever it says.
bool AnswersHealthCheck(const std::string& address, absl::Duration timeout);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GRPC_SERVER_H_
