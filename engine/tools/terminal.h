// Progress of long work: one line on stderr that is rewritten, only where stderr is a terminal.
#ifndef NIBBLE_ENGINE_TOOLS_TERMINAL_H_
#define NIBBLE_ENGINE_TOOLS_TERMINAL_H_

#include <cstdint>
#include <string>

namespace nibble::engine {

class ProgressLine {
 public:
  explicit ProgressLine(std::string what);
  ~ProgressLine();  // clears the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Show(int64_t done, int64_t all);

 private:
  const std::string what_;
  const bool terminal_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_TERMINAL_H_
