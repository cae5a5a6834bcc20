#include "server/file_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

constexpr uint32_t kChanges = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_ATTRIB;
// After the last change, before the files are taken for whole.
constexpr int kRestMs = 50;
constexpr int kMostRests = 20;
constexpr int kForever = -1;

}  // namespace

absl::StatusOr<std::unique_ptr<FileWatch>> FileWatch::Start(const std::vector<std::string>& paths,
                                                            std::function<void()> changed) {
  std::unique_ptr<FileWatch> watch(new FileWatch(std::move(changed)));
  for (const std::string& path : paths) NIBBLE_RETURN_IF_ERROR(watch->Watch(path));
  watch->thread_ = std::thread([watch = watch.get()] { watch->Run(); });
  return watch;
}

FileWatch::FileWatch(std::function<void()> changed)
    : changed_(std::move(changed)), events_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)), stop_(eventfd(0, EFD_CLOEXEC)) {}

FileWatch::~FileWatch() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    NIBBLE_CHECK(write(stop_, &one, sizeof(one)) == sizeof(one));
    thread_.join();
  }
  close(events_);
  close(stop_);
}

absl::Status FileWatch::Watch(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? std::filesystem::current_path() : parent;
  if (inotify_add_watch(events_, folder.c_str(), kChanges) >= 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot watch ", folder));
}

void FileWatch::Run() {
  Found found = Found::kQuiet;
  do {
    changed_();
    found = Await(kForever);
    // In a folder that never rests, not for ever.
    for (int i = 0; found == Found::kChange && i < kMostRests; ++i) found = Await(kRestMs);
  } while (found != Found::kStop);
}

// Takes what has come within `timeout_ms`.
FileWatch::Found FileWatch::Await(int timeout_ms) {
  pollfd sources[] = {{events_, POLLIN, 0}, {stop_, POLLIN, 0}};
  while (poll(sources, 2, timeout_ms) < 0 && errno == EINTR) {
  }
  if (sources[1].revents != 0) return Found::kStop;
  if (sources[0].revents == 0) return Found::kQuiet;
  char events[4096];  // which they are does not matter
  while (read(events_, events, sizeof(events)) > 0) {
  }
  return Found::kChange;
}

}  // namespace nibble::server
