// `nibble inspect FILE`: what a model (a GGUF file or a folder), a KV calibration or a delta holds, for people.
#ifndef NIBBLE_ENGINE_TOOLS_INSPECT_H_
#define NIBBLE_ENGINE_TOOLS_INSPECT_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace nibble::engine {

// Writes container, configuration, tensors by encoding and tokenizer to `out`, or what InspectCalibration or
// InspectDelta does. Errors are theirs and OpenModelFile's; what was proven of a model before the error is written all
// the same. Text from the file is escaped: it cannot drive a terminal.
absl::Status Inspect(const std::string& path, std::ostream& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_INSPECT_H_
