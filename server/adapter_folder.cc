#include "server/adapter_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/weights/regular_file.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {
namespace {

constexpr std::string_view kExtension = ".safetensors";

std::string FileOf(std::string_view name) { return std::string(name) + std::string(kExtension); }

absl::Status NotOneFile() {
  return absl::InvalidArgumentError("adapter: its file is not a regular file with a single name");
}

absl::StatusOr<FileStamp> StampOf(const struct stat& info) {
  // One without a name was replaced since it was found by it, and is whole.
  if (!S_ISREG(info.st_mode) || info.st_nlink > 1) return NotOneFile();
  return FileStamp{info.st_ino, info.st_size,
                   int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + int64_t{info.st_mtim.tv_nsec}};
}

absl::Status OpenError(int error) {
  if (error == ENOENT) return absl::NotFoundError("adapter: no such adapter");
  if (error == ELOOP) return NotOneFile();
  if (error == EMFILE || error == ENFILE || error == ENOMEM) {
    return absl::ResourceExhaustedError("adapter: no descriptor or memory is left to open its file");
  }
  return absl::ErrnoToStatus(error, "adapter: its file cannot be opened");
}

}  // namespace

bool IsAdapterName(std::string_view name) {
  if (name.empty() || name.size() > kMaxAdapterName || name.front() == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

absl::StatusOr<AdapterFolder> AdapterFolder::Open(const std::string& path) {
  AdapterFolder folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.descriptor_ < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the folder ", path));
  return folder;
}

AdapterFolder::~AdapterFolder() {
  if (descriptor_ >= 0) close(descriptor_);
}

AdapterFolder::AdapterFolder(AdapterFolder&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

absl::StatusOr<std::vector<std::string>> AdapterFolder::Names() const {
  // Of its own, for the place in the listing is the descriptor's.
  const int descriptor = openat(descriptor_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return OpenError(errno);
  DIR* const listing = fdopendir(descriptor);
  if (listing == nullptr) {
    close(descriptor);
    return absl::ResourceExhaustedError("adapters: no memory is left to list the folder");
  }
  const auto closed = absl::MakeCleanup([listing] { closedir(listing); });
  std::vector<std::string> names;
  while (const dirent* const entry = readdir(listing)) {
    std::string_view name = entry->d_name;
    if (!name.ends_with(kExtension)) continue;
    name.remove_suffix(kExtension.size());
    if (IsAdapterName(name) && Stamp(name).ok()) names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<FileStamp> AdapterFolder::Stamp(std::string_view name) const {
  struct stat info = {};
  if (fstatat(descriptor_, FileOf(name).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return OpenError(errno);
  return StampOf(info);
}

absl::StatusOr<std::vector<std::byte>> AdapterFolder::Read(std::string_view name, int64_t max_bytes,
                                                           absl::FunctionRef<void()> pause) const {
  // Not blocking: opening a FIFO must return, to be refused.
  const int descriptor =
      openat(descriptor_, FileOf(name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (descriptor < 0) return OpenError(errno);
  const auto closed = absl::MakeCleanup([descriptor] { close(descriptor); });
  struct stat info = {};
  if (fstat(descriptor, &info) != 0) return OpenError(errno);
  NIBBLE_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(info));
  if (stamp.size_bytes > max_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("adapter: its file has ", stamp.size_bytes, " bytes, above the limit of ", max_bytes));
  }
  absl::StatusOr<std::vector<std::byte>> bytes =
      engine::ReadDescriptor(descriptor, static_cast<uint64_t>(stamp.size_bytes), FileOf(name), pause);
  if (!bytes.ok()) return absl::UnavailableError("adapter: its file cannot be read");
  return bytes;
}

}  // namespace nibble::server
