// Any bytes as a trace of the load harness: it is refused, or every line is within its limits and in order.
#include <cstdint>
#include <sstream>
#include <string>

#include "kvcache/base/check.h"
#include "loadtest/trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  const auto trace = nibble::loadtest::ParseTrace(lines, "trace");
  if (!trace.ok()) return 0;
  NIBBLE_CHECK(!trace->empty());
  double previous_ms = 0;
  for (const nibble::loadtest::TraceLine& line : *trace) {
    NIBBLE_CHECK(line.timestamp_ms >= previous_ms);
    NIBBLE_CHECK(line.input_tokens >= 1 && line.output_tokens >= 1);
    previous_ms = line.timestamp_ms;
  }
  return 0;
}
