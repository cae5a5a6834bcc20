// A size on the command line: "512MiB", "4GiB", "64KiB", "1048576". ABSL_FLAG(ByteSize, kv_memory, …).
#ifndef NIBBLE_ENGINE_TOOLS_BYTE_SIZE_H_
#define NIBBLE_ENGINE_TOOLS_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace nibble::engine {

struct ByteSize {
  int64_t bytes = 0;
};

// Abseil's flag hooks. Refuses signs, fractions, other units and what does not fit 63 bits.
bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error);
std::string AbslUnparseFlag(const ByteSize& size);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_BYTE_SIZE_H_
