// `nibble inspect F.nibblekv`: what a calibration is for and where its bits went, for people.
#ifndef NIBBLE_ENGINE_TOOLS_INSPECT_CALIBRATION_H_
#define NIBBLE_ENGINE_TOOLS_INSPECT_CALIBRATION_H_

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace nibble::engine {

// Writes provenance, codecs, and bits per element of keys and of values, layer by layer. Errors are ReadCalibration's.
absl::Status InspectCalibration(const std::string& path, std::ostream& out);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_INSPECT_CALIBRATION_H_
