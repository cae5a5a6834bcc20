#include "engine/tools/terminal.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace nibble::engine {

ProgressLine::ProgressLine(std::string what) : what_(std::move(what)), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  if (terminal_) std::fprintf(stderr, "\r\033[K");
}

void ProgressLine::Show(int64_t done, int64_t all) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r\033[K%s %lld / %lld", what_.c_str(), static_cast<long long>(done),
               static_cast<long long>(all));
}

}  // namespace nibble::engine
