#include "engine/tools/inspect_delta.h"

#include <algorithm>
#include <cstdint>

#include "engine/adapters/delta_file.h"
#include "engine/tools/inspect_line.h"
#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::Status InspectDelta(const std::string& path, std::ostream& out) {
  NIBBLE_ASSIGN_OR_RETURN(const DeltaFile file, ReadDelta(path));
  const DeltaProvenance& from = file.provenance;
  uint64_t sign_bytes = 0, code_bytes = 0;
  int64_t planes = 0;
  for (const auto& [name, delta] : file.signs) {
    sign_bytes += 4 * (delta.signs().size() + delta.scales().size());
    planes = std::max(planes, delta.planes());
  }
  for (const auto& [name, delta] : file.codes) code_bytes += delta.codes().size() + 4 * delta.scales().size();
  Line(out, "container", "delta of a fine-tune (safetensors)");
  Line(out, "base_sha256", from.base_sha256);
  Line(out, "tuned_sha256", from.tuned_sha256);
  Line(out, "method", Quoted(from.method));
  Line(out, "license", from.license.empty() ? "none" : absl::StrFormat("%d bytes", from.license.size()));
  Line(out, "signs",
       absl::StrFormat("%d projections, at most %d planes, %d bytes", file.signs.size(), planes, sign_bytes));
  Line(out, "codes", absl::StrFormat("%d other tensors, %d bytes", file.codes.size(), code_bytes));
  return absl::OkStatus();
}

}  // namespace nibble::engine
