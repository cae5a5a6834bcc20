// A line of what `nibble inspect` prints: a name, padded, and its value.
#ifndef NIBBLE_ENGINE_TOOLS_INSPECT_LINE_H_
#define NIBBLE_ENGINE_TOOLS_INSPECT_LINE_H_

#include <ostream>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace nibble::engine {

inline void Line(std::ostream& out, std::string_view name, const std::string& value) {
  out << absl::StrFormat("%-24s %s\n", std::string(name), value);
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_INSPECT_LINE_H_
