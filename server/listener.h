// The port of requests: accepts connections and hands them on, up to a number at once. gRPC's own listener has no such
// cap, and in Debian's version accepts no more once descriptors ran out (CVE-2023-4785); this one tries again.
#ifndef NIBBLE_SERVER_LISTENER_H_
#define NIBBLE_SERVER_LISTENER_H_

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace nibble::server {

class Listener {
 public:
  struct Options {
    int64_t connections = 0;  // open at once; one above is closed as soon as it is accepted
    // A connection whose peer acknowledges nothing for so long is dead (TCP_USER_TIMEOUT).
    absl::Duration unacked_timeout;
  };

  // Binds "HOST:PORT"; port 0: a free one. A name is bound at each of its addresses. UNAVAILABLE where it cannot.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(const std::string& address, const Options& options);
  ~Listener();

  // As given, with the port that was bound.
  const std::string& address() const { return address_; }
  // Accepts from now on, on a thread of its own; `take` owns the descriptors that it is given. Once.
  void Start(std::function<void(int fd)> take);
  // No connection is accepted or taken any more. Idempotent.
  void Stop();
  // Any thread. Whether the last connection was one too many.
  bool full() const { return full_; }

 private:
  // Descriptors are used again by others once closed; a socket's inode is not.
  struct Connection {
    int fd;
    ino_t inode;
  };

  explicit Listener(const Options& options) : options_(options) {}
  absl::Status BindAll(const std::string& host, const std::string& port);
  void Run();
  // False: no descriptor is left for another.
  bool AcceptOne(int listening);
  void Admit(int fd);
  void ForgetClosed();

  const Options options_;
  std::string address_;
  std::vector<int> listening_;
  int stop_ = -1;                        // readable once stopped
  std::vector<Connection> connections_;  // of the thread
  std::function<void(int)> take_;
  std::atomic<bool> full_ = false;
  std::thread thread_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LISTENER_H_
