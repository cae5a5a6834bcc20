#include "engine/weights/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

class Descriptor {
 public:
  // Not blocking: opening a FIFO must return, to be refused.
  explicit Descriptor(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::StatusOr<absl::Span<const std::byte>> MapBytes(const Descriptor& file, const std::string& path) {
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) return absl::ErrnoToStatus(errno, "cannot stat " + path);
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(path + " is not a regular file");
  if (info.st_size == 0) return absl::Span<const std::byte>();
  const auto size = static_cast<size_t>(info.st_size);
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map " + path);
  return absl::Span<const std::byte>(static_cast<const std::byte*>(memory), size);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  const Descriptor file(path);
  if (file.get() < 0) return absl::ErrnoToStatus(errno, "cannot open " + path);
  NIBBLE_ASSIGN_OR_RETURN(const absl::Span<const std::byte> bytes, MapBytes(file, path));
  return std::shared_ptr<const MappedFile>(new MappedFile(bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace nibble::engine
