// Server-sent events, as streaming completions send them (WHATWG HTML, "Server-sent events").
#ifndef NIBBLE_LOADTEST_SSE_H_
#define NIBBLE_LOADTEST_SSE_H_

#include <string>
#include <string_view>
#include <vector>

namespace nibble::loadtest {

// Puts the payloads of `data:` lines together from pieces cut anywhere. Of the format it keeps what completions use:
// one line of data per event; other fields and comments are skipped.
class SseReader {
 public:
  // The payloads that `bytes` completes, in order.
  std::vector<std::string> Add(std::string_view bytes);

 private:
  std::string line_;  // begun, not ended
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_SSE_H_
