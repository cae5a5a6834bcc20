// `nibble inspect` of a delta file.
#ifndef NIBBLE_ENGINE_TOOLS_INSPECT_DELTA_H_
#define NIBBLE_ENGINE_TOOLS_INSPECT_DELTA_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace nibble::engine {

// Writes provenance and sizes. Errors are ReadDelta's. Text from the file is escaped.
absl::Status InspectDelta(const std::string& path, std::ostream& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_INSPECT_DELTA_H_
