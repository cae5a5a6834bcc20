#include "engine/tools/files.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"

namespace nibble::engine {
namespace {

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

std::string PartialOf(const std::string& path) { return path + ".partial"; }

}  // namespace

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  std::string text;
  char block[1 << 16];
  while (const size_t count = std::fread(block, 1, sizeof(block), file.get())) text.append(block, count);
  if (std::ferror(file.get())) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  return text;
}

absl::Status WriteWholeFile(const std::string& path, const std::string& text) {
  const File opened(path == "-" ? nullptr : std::fopen(path.c_str(), "wb"));
  std::FILE* const file = path == "-" ? stdout : opened.get();
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fputc('\n', file) != EOF &&
                       std::fflush(file) == 0;
  return written ? absl::OkStatus() : absl::UnavailableError(absl::StrCat("cannot write ", path));
}

absl::Status CheckReplaceable(const std::string& path) {
  const std::string partial = PartialOf(path);
  if (const File file(std::fopen(partial.c_str(), "wb")); file == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("cannot write ", partial));
  }
  std::remove(partial.c_str());
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, const std::string& bytes) {
  const std::string partial = PartialOf(path);
  {
    const File file(std::fopen(partial.c_str(), "wb"));
    if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", partial));
    const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() &&
                         std::fflush(file.get()) == 0 && fsync(fileno(file.get())) == 0;
    if (!written) {
      std::remove(partial.c_str());
      return absl::UnavailableError(absl::StrCat("cannot write ", partial));
    }
  }
  if (std::rename(partial.c_str(), path.c_str()) == 0) return absl::OkStatus();
  std::remove(partial.c_str());
  return absl::UnavailableError(absl::StrCat("cannot write ", path));
}

absl::Status CheckWritable(const std::string& path) {
  if (path.empty() || path == "-") return absl::OkStatus();
  const File file(std::fopen(path.c_str(), "ab"));
  if (file != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", path));
}

}  // namespace nibble::engine
