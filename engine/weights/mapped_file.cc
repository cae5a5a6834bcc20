#include "engine/weights/mapped_file.h"

#include <sys/mman.h>

#include <cerrno>

#include "engine/weights/regular_file.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  NIBBLE_ASSIGN_OR_RETURN(const RegularFile file, RegularFile::Open(path));
  absl::Span<const std::byte> bytes;
  if (const size_t size = file.size_bytes(); size > 0) {
    void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    if (memory == MAP_FAILED) return absl::ErrnoToStatus(errno, "cannot map " + path);
    bytes = {static_cast<const std::byte*>(memory), size};
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(bytes));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace nibble::engine
