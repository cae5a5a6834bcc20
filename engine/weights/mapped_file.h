// A whole file, read-only, as memory. Pages are read from the disk when they are first touched.
//
// The file is the operator's: if it is truncated while mapped, touching a page past its new end kills the process
// (SIGBUS). Files that tenants can write are read into memory instead, never mapped.
#ifndef NIBBLE_ENGINE_WEIGHTS_MAPPED_FILE_H_
#define NIBBLE_ENGINE_WEIGHTS_MAPPED_FILE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace nibble::engine {

class MappedFile {
 public:
  // Follows links. Errors are the system's (NOT_FOUND, PERMISSION_DENIED, …); FAILED_PRECONDITION for what is not a
  // regular file.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::Span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(absl::Span<const std::byte> bytes) : bytes_(bytes) {}
  absl::Span<const std::byte> bytes_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_MAPPED_FILE_H_
