// Notices that files were changed, on a thread of its own. It watches their folders, so it sees files that are written,
// replaced by rename, or reached through a link in their folder that is swapped, as Kubernetes does with `..data`.
#ifndef NIBBLE_SERVER_FILE_WATCH_H_
#define NIBBLE_SERVER_FILE_WATCH_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace nibble::server {

class FileWatch {
 public:
  // Calls `changed` on the watch's thread: once at the start, for what was missed before it, and then when a folder has
  // come to rest after a change of anything in it. Errors name the folder.
  static absl::StatusOr<std::unique_ptr<FileWatch>> Start(const std::vector<std::string>& paths,
                                                          std::function<void()> changed);
  // `changed` is not called any more.
  ~FileWatch();

 private:
  enum class Found { kQuiet, kChange, kStop };

  explicit FileWatch(std::function<void()> changed);
  absl::Status Watch(const std::string& path);
  void Run();
  Found Await(int timeout_ms);

  const std::function<void()> changed_;
  const int events_;  // inotify
  const int stop_;    // eventfd
  std::thread thread_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_FILE_WATCH_H_
