// An open regular file, for the two ways to have its bytes: mapped_file.h for the operator's, ReadFile for all others.
#ifndef NIBBLE_ENGINE_WEIGHTS_REGULAR_FILE_H_
#define NIBBLE_ENGINE_WEIGHTS_REGULAR_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace nibble::engine {

class RegularFile {
 public:
  // Follows links. Errors are the system's (NOT_FOUND, PERMISSION_DENIED, …) and name the path; FAILED_PRECONDITION for
  // what is not a regular file.
  static absl::StatusOr<RegularFile> Open(const std::string& path);
  ~RegularFile();
  RegularFile(RegularFile&& other) noexcept;
  RegularFile(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  uint64_t size_bytes() const { return size_bytes_; }  // when it was opened

 private:
  explicit RegularFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
  uint64_t size_bytes_ = 0;
};

// Reads up to `size_bytes` from where the descriptor is; fewer where the file has fewer by now. Calls `pause` between
// pieces of 256 KiB. Errors are the system's and name `path`.
absl::StatusOr<std::vector<std::byte>> ReadDescriptor(int descriptor, uint64_t size_bytes, const std::string& path,
                                                      absl::FunctionRef<void()> pause);

// All bytes of a file as it is now: what happens to it later has no effect. FAILED_PRECONDITION above `max_bytes`.
absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path, uint64_t max_bytes);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_REGULAR_FILE_H_
