#include "engine/weights/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::StatusOr<RegularFile> RegularFile::Open(const std::string& path) {
  // Not blocking: opening a FIFO must return, to be refused.
  RegularFile file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.descriptor_ < 0) return absl::ErrnoToStatus(errno, "cannot open " + path);
  struct stat info = {};
  if (fstat(file.descriptor_, &info) != 0) return absl::ErrnoToStatus(errno, "cannot stat " + path);
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(path + " is not a regular file");
  file.size_bytes_ = static_cast<uint64_t>(info.st_size);
  return file;
}

RegularFile::~RegularFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

RegularFile::RegularFile(RegularFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), size_bytes_(other.size_bytes_) {}

absl::StatusOr<std::vector<std::byte>> ReadDescriptor(int descriptor, uint64_t size_bytes, const std::string& path,
                                                      absl::FunctionRef<void()> pause) {
  constexpr uint64_t kPiece = 256 << 10;
  std::vector<std::byte> bytes;
  bytes.reserve(size_bytes);
  size_t filled = 0;
  while (filled < size_bytes) {
    bytes.resize(std::min<uint64_t>(size_bytes, filled + kPiece));
    const ssize_t count = read(descriptor, bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, "cannot read " + path);
    if (count == 0) break;  // it shrank: whoever parses it finds it cut short
    filled += static_cast<size_t>(count);
    pause();
  }
  bytes.resize(filled);
  return bytes;
}

absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path, uint64_t max_bytes) {
  NIBBLE_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  if (file.size_bytes() > max_bytes) {
    return absl::FailedPreconditionError(path + " has " + std::to_string(file.size_bytes()) +
                                         " bytes, above the limit of " + std::to_string(max_bytes));
  }
  return ReadDescriptor(file.descriptor(), file.size_bytes(), path, [] {});
}

}  // namespace nibble::engine
