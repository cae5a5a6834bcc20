// The JSON header of a safetensors file, read event by event: nothing nests deeper than the format does, and no
// document is built. For safetensors.cc alone.
#ifndef NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_HEADER_H_
#define NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/weights/safetensors.h"

namespace nibble::engine {

// What the header says of one tensor. The numbers are not yet held against the file.
struct SafetensorsEntry {
  SafetensorsTensor tensor;  // without data
  uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsEntry> entries;
};

// `json` starts at byte `base` of the file, for errors.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t base);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_HEADER_H_
