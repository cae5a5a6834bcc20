// The folder of deltas that a daemon serves: NAME.safetensors is the adapter NAME. What lies there may be written by
// people who are not trusted: a name is one component of a path, links are not followed, and a file is read into memory
// before anything of it is believed. Any thread.
//
// Names are single components, so openat() with O_NOFOLLOW cannot leave the folder; openat2() would add nothing, and
// some sandboxes have none.
#ifndef NIBBLE_SERVER_ADAPTER_FOLDER_H_
#define NIBBLE_SERVER_ADAPTER_FOLDER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace nibble::server {

inline constexpr size_t kMaxAdapterName = 64;

// What tells one state of a file from another without reading it.
struct FileStamp {
  uint64_t inode = 0;
  int64_t size_bytes = 0;
  int64_t modified = 0;  // nanoseconds

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

// 1 to kMaxAdapterName letters, digits, '.', '_' and '-', of which the first is no '.'.
bool IsAdapterName(std::string_view name);

class AdapterFolder {
 public:
  // Errors are the system's and name the path.
  static absl::StatusOr<AdapterFolder> Open(const std::string& path);
  ~AdapterFolder();
  AdapterFolder(AdapterFolder&& other) noexcept;
  AdapterFolder(const AdapterFolder&) = delete;

  // Names of the regular files, in order.
  absl::StatusOr<std::vector<std::string>> Names() const;
  // REQUIRES, as Read does: IsAdapterName(name). NOT_FOUND: there is no file; INVALID_ARGUMENT: it is not a regular
  // file of one name (a link, a folder, a device, a FIFO, or linked from elsewhere too). No error holds a path.
  absl::StatusOr<FileStamp> Stamp(std::string_view name) const;
  // All bytes, as they are now; calls `pause` between pieces. Further errors: FAILED_PRECONDITION above `max_bytes`,
  // RESOURCE_EXHAUSTED where descriptors or memory end, UNAVAILABLE where reading fails.
  absl::StatusOr<std::vector<std::byte>> Read(std::string_view name, int64_t max_bytes,
                                              absl::FunctionRef<void()> pause) const;

 private:
  explicit AdapterFolder(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ADAPTER_FOLDER_H_
