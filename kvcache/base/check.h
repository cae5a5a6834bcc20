// Checks of our own invariants. A failed check is a bug of this program, never of a caller's input or a file: those
// are absl::Status. It prints one line and aborts. May be used from any thread.
#ifndef NIBBLE_KVCACHE_BASE_CHECK_H_
#define NIBBLE_KVCACHE_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace nibble {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace nibble

// Always on, in release builds too.
#define NIBBLE_CHECK(condition) \
  (__builtin_expect(!!(condition), 1) ? static_cast<void>(0) : ::nibble::CheckFailed(__FILE__, __LINE__, #condition))

#endif  // NIBBLE_KVCACHE_BASE_CHECK_H_
