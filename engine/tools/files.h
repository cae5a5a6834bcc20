// Reading and writing of whole files for commands.
#ifndef NIBBLE_ENGINE_TOOLS_FILES_H_
#define NIBBLE_ENGINE_TOOLS_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::engine {

// All bytes of a file. NOT_FOUND and the like name the path.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path);

// `text` and a newline to `path`; `-` is stdout. UNAVAILABLE if not everything could be written.
absl::Status WriteWholeFile(const std::string& path, const std::string& text);

// Exactly `bytes`, as a new file that takes the place of `path` once it is whole. UNAVAILABLE if that failed; then
// `path` is as it was.
absl::Status ReplaceFile(const std::string& path, const std::string& bytes);
// INVALID_ARGUMENT unless ReplaceFile could begin: found out before long work, and leaves nothing behind.
absl::Status CheckReplaceable(const std::string& path);

// INVALID_ARGUMENT unless `path` can be written: found out before work that ends in WriteWholeFile. Empty and `-` can.
absl::Status CheckWritable(const std::string& path);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_FILES_H_
